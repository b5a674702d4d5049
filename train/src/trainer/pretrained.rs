//! From pretrained weights to the network that is trained: which network they are of, how pixels are scaled for it, and the embedding
//! layer's first weights, the principal components of the training features.

use std::path::{Path, PathBuf};

use dfml_models::{Architecture, PixelScale, TensorMap, Transform, arch, pca};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::Device;

use crate::config::{ArchChoice, DataConfig, ModelConfig, TrainConfig};
use crate::data::{Dataset, eval_pixels};
use crate::error::TrainError;
use crate::nn::params::to_host;
use crate::nn::{Effort, Network, NetworkOptions, build};
use crate::progress::Progress;

/// Images whose features the principal components are computed from.
const IMAGES_MAX: usize = 2000;
/// Images per forward pass.
const BATCH: usize = 64;

/// A network's architecture and the scale of its pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The network, cut as configured, with its embedding layer if it gets one.
    pub architecture: Architecture,
    /// The scale that it was pretrained on.
    pub scale: PixelScale,
}

/// Which network a configuration means; `weights` decide where it names none.
///
/// # Errors
/// An unknown name, numbers that do not work out, weights of no known network, or an image size that the network cannot take.
pub fn resolve(config: &TrainConfig, weights: &TensorMap) -> Result<Resolved, TrainError> {
    let model = &config.model;
    let (architecture, scale) = match &model.arch {
        Some(ArchChoice::Name(name)) => {
            let preset = arch::preset(name)?;
            (preset.architecture, preset.scale)
        }
        Some(ArchChoice::Explicit(explicit)) => (explicit.clone(), usual_scale(explicit)),
        None => {
            let inferred = arch::infer(weights, model.sub_blocks, None)?;
            let scale = usual_scale(&inferred);
            (inferred, scale)
        }
    };
    let architecture = architecture.with_sub_blocks(model.sub_blocks);
    let layer = model.embedding_layer(&architecture);
    let architecture = architecture.with_embedding_layer(layer);
    architecture.validate()?;
    if let Architecture::Vit(net) = &architecture
        && net.image_size != config.data.image_size as usize
    {
        return Err(TrainError::ImageSize { network: net.image_size, config: config.data.image_size });
    }
    Ok(Resolved { architecture, scale: config.data.scale.unwrap_or(scale) })
}

/// The scale that the family is usually trained with.
fn usual_scale(architecture: &Architecture) -> PixelScale {
    match architecture {
        Architecture::EfficientnetLite(_) => PixelScale::Lite,
        Architecture::Vit(_) | Architecture::Resnet(_) => PixelScale::Imagenet,
    }
}

/// The evaluation transform of a configuration.
pub fn eval_transform(data: &DataConfig, scale: PixelScale) -> Transform {
    Transform::square(data.resize_short, data.image_size, scale)
}

/// The file of the pretrained weights: `given`, else the configured one, else what set-up fetched if that is the network asked for.
///
/// # Errors
/// None of the three; the message says what to give.
pub fn weights_file(given: Option<&Path>, model: &ModelConfig) -> Result<PathBuf, TrainError> {
    if let Some(path) = given.or(model.weights.as_deref()) {
        return Ok(path.to_owned());
    }
    let fetched = dfml_models::cache_dir().join("weights/efficientnet-lite0.pth");
    let is_lite0 = match &model.arch {
        None => true,
        Some(ArchChoice::Name(name)) => name == "efficientnet_lite0",
        Some(ArchChoice::Explicit(_)) => false,
    };
    if is_lite0 && fetched.is_file() {
        return Ok(fetched);
    }
    let wanted = match &model.arch {
        Some(ArchChoice::Name(name)) => format!(" of {name}"),
        _ => String::new(),
    };
    Err(TrainError::NoWeights { wanted })
}

/// The network `architecture` with `weights`; an embedding layer that they lack starts from the principal components of the training
/// features, so that the untrained network searches as well as its raw features.
///
/// # Errors
/// Weights that do not fit, an image that cannot be read, or fewer images than dimensions.
pub fn build_pretrained(
    config: &TrainConfig,
    resolved: &Resolved,
    mut weights: TensorMap,
    train: &Dataset,
    seed: u64,
    device: Device,
) -> Result<Box<dyn Network>, TrainError> {
    let options = network_options(config, seed);
    if let Some(dim) = resolved.architecture.embedding_layer()
        && !weights.contains_key("embedding.weight")
    {
        let bare = resolved.architecture.clone().with_embedding_layer(None);
        let network = build(&bare, &weights, &options, device)?;
        let transform = eval_transform(&config.data, resolved.scale);
        principal_embedding(network.as_ref(), train, &transform, config, dim, &mut weights, device)?;
    }
    build(&resolved.architecture, &weights, &options, device)
}

/// What the configuration says about the network beside its architecture.
pub fn network_options(config: &TrainConfig, seed: u64) -> NetworkOptions {
    NetworkOptions {
        frozen_blocks: config.model.frozen_blocks,
        gap_weight: config.loss.gap,
        bn_freeze: config.model.bn_freeze,
        seed,
        ..NetworkOptions::default()
    }
}

/// At most `count` image indices of `dataset`, drawn by `seed`, in ascending order.
pub(super) fn seeded_subset(dataset: &Dataset, count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..dataset.images.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Adds `embedding.weight` `[dim, features]` and `embedding.bias` `[dim]` to `weights`: the projection of the centred features of
/// `network` on their first `dim` principal components.
fn principal_embedding(
    network: &dyn Network,
    dataset: &Dataset,
    transform: &Transform,
    config: &TrainConfig,
    dim: usize,
    weights: &mut TensorMap,
    device: Device,
) -> Result<(), TrainError> {
    let subset = seeded_subset(dataset, IMAGES_MAX, 0);
    let progress = Progress::new("principal components", subset.len() as u64);
    let (mut features, mut rows) = (Vec::new(), 0);
    for chunk in subset.chunks(BATCH) {
        let paths: Vec<PathBuf> = chunk.iter().map(|&image| dataset.images[image].clone()).collect();
        let batch = eval_pixels(&paths, transform, config.data.on_bad_image, device)?;
        progress.add(chunk.len() as u64);
        if batch.kept.is_empty() {
            continue;
        }
        rows += batch.kept.len();
        features.extend(to_host(&tch::no_grad(|| network.features(&batch.pixels, Effort::All))).data);
    }
    progress.finish();
    let columns = features.len() / rows.max(1);
    let (weight, bias) = pca::fit(&features, rows, columns, dim)?.linear();
    weights.insert("embedding.weight".into(), weight);
    weights.insert("embedding.bias".into(), bias);
    Ok(())
}
