//! What a run leaves behind: checkpoint, figures, configuration, and the model directory that servers load.

use std::collections::BTreeMap;
use std::path::Path;

use dfml_models::{
    ExportRequest, Interpolation, Lineage, Reference, Transform, save_safetensors, sha256_file, sha256_hex,
    write_model_dir,
};
use tch::Device;

use super::embedding_init::seeded_subset;
use super::fit::{FitOptions, FitReport};
use crate::config::DataConfig;
use crate::data::{Dataset, eval_pixels};
use crate::error::TrainError;
use crate::nn::Network;
use crate::nn::params::to_host;

/// Images whose libtorch embeddings travel with the model as its known-answer test.
const REFERENCE_IMAGES: usize = 50;

/// The evaluation transform of a data configuration; EfficientNet-Lite's pixel scale `(x - 127) / 128`.
pub(crate) fn eval_transform(data: &DataConfig) -> Transform {
    Transform {
        resize_short: data.resize_short,
        crop_height: data.image_size,
        crop_width: data.image_size,
        interpolation: Interpolation::BilinearAntialias,
        mean: [127.0; 3],
        std: [128.0; 3],
    }
}

/// Writes `checkpoint.safetensors` (factorised, with routers), `metrics.json`, `config.toml` and `model/`.
///
/// # Errors
/// A file that cannot be written, by path; weights that do not fit the architecture, by tensor.
pub(crate) fn write(
    options: &FitOptions,
    network: &dyn Network,
    test: &Dataset,
    transform: &Transform,
    report: &FitReport,
    device: Device,
) -> Result<(), TrainError> {
    let out = &options.out;
    fs_err::create_dir_all(out)?;
    let architecture = network.architecture();
    let checkpoint = out.join("checkpoint.safetensors");
    let metadata = BTreeMap::from([
        ("architecture".to_owned(), to_json(&architecture)?),
        ("name".to_owned(), options.config.name.clone()),
        ("seed".to_owned(), options.seed.to_string()),
    ]);
    let weights = network.checkpoint()?;
    save_safetensors(&checkpoint, &weights, &metadata)?;
    let config = toml::to_string(&options.config).map_err(std::io::Error::other)?;
    fs_err::write(out.join("config.toml"), &config)?;

    let lineage = Lineage {
        weights_sha256: sha256_file(&options.weights)?,
        data_sha256: Some(sha256_file(options.data.join(&options.config.data.train))?),
        config_sha256: Some(sha256_hex(config.as_bytes())),
        checkpoint_sha256: Some(sha256_file(&checkpoint)?),
        seed: Some(options.seed),
        producer: format!("dfml-train {}", env!("CARGO_PKG_VERSION")),
    };
    let request = ExportRequest {
        name: options.config.name.clone(),
        architecture,
        weights: &weights,
        transform: transform.clone(),
        lineage,
        reference: Some(reference(network, test, transform, device)?),
    };
    write_model_dir(out.join("model"), &request)?;
    // Last, so that a run directory with figures is a whole one.
    fs_err::write(out.join("metrics.json"), to_json(report)?)?;
    Ok(())
}

/// Embeddings of real images as this network computes them.
fn reference(
    network: &dyn Network,
    test: &Dataset,
    transform: &Transform,
    device: Device,
) -> Result<Reference, TrainError> {
    let subset = seeded_subset(test, REFERENCE_IMAGES, 0);
    let paths: Vec<&Path> = subset.iter().map(|&image| test.images[image].as_path()).collect();
    let (images, pixels) = eval_pixels(&paths, transform, device)?;
    let embeddings = to_host(&tch::no_grad(|| network.embed(&pixels)));
    let dim = embeddings.shape.last().copied().unwrap_or(1).max(1);
    Ok(Reference { pixels: images, embeddings: embeddings.data.chunks(dim).map(<[f32]>::to_vec).collect() })
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, TrainError> {
    serde_json::to_string_pretty(value).map_err(|e| TrainError::Io(std::io::Error::other(e)))
}
