//! The embedding layer's first weights: the principal components of the training features.

use std::path::Path;
use std::sync::Arc;

use dfml_models::{TensorMap, Transform, pca};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use crate::data::{Dataset, eval_pixels};
use crate::error::TrainError;
use crate::nn::params::to_host;
use crate::nn::{Effort, Network};
use crate::progress::Progress;

/// Images whose features the principal components are computed from.
const IMAGES_MAX: usize = 2000;

/// At most `count` image indices of `dataset`, drawn by `seed`, in ascending order.
pub fn seeded_subset(dataset: &Dataset, count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..dataset.images.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// Adds `embedding.weight` `[dim, features]` and `embedding.bias` `[dim]` to `weights`: the projection of the centred
/// features of `network` (built without an embedding layer) on their first `dim` principal components, so that
/// the untrained model searches as well as its raw features.
///
/// # Errors
/// An image that cannot be read, or fewer images than dimensions.
pub fn principal_embedding(
    network: &dyn Network,
    dataset: &Arc<Dataset>,
    transform: &Transform,
    dim: usize,
    weights: &mut TensorMap,
    device: Device,
) -> Result<(), TrainError> {
    let subset = seeded_subset(dataset, IMAGES_MAX, 0);
    let progress = Progress::new("principal components", subset.len() as u64);
    let mut features = Vec::new();
    for chunk in subset.chunks(64) {
        let paths: Vec<&Path> = chunk.iter().map(|&image| dataset.images[image].as_path()).collect();
        let (_, pixels) = eval_pixels(&paths, transform, device)?;
        let batch: Tensor = tch::no_grad(|| network.features(&pixels, Effort::All));
        features.extend(to_host(&batch).data);
        progress.add(chunk.len() as u64);
    }
    progress.finish();
    let columns = features.len() / subset.len().max(1);
    let (weight, bias) = pca::fit(&features, subset.len(), columns, dim)?.linear();
    weights.insert("embedding.weight".into(), weight);
    weights.insert("embedding.bias".into(), bias);
    Ok(())
}
