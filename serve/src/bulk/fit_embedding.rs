//! An embedding layer for a network that has none: the principal components of its features.

use std::{ops::ControlFlow, path::Path};

use dfml_models::{
    Architecture, EfficientNetLite, ExportError, ExportRequest, Lineage, PcaError, Tensor, TensorMap,
    Transform, pca, write_model_dir,
};

use super::{BulkError, BulkOptions, ItemError, embed_files};
use crate::engine::{Engine, EngineError, EngineOptions};

/// Pooled features of many images, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// `rows * width` values.
    pub values: Vec<f32>,
    /// Images.
    pub rows: usize,
    /// Features of an image.
    pub width: usize,
    /// Images that could not be read.
    pub skipped: usize,
}

/// Why an embedding layer could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The network could not be written for the runtime.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// It could not be loaded or computed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The bulk run failed.
    #[error(transparent)]
    Bulk(#[from] BulkError),
    /// The features do not span as many dimensions as were asked for.
    #[error(transparent)]
    Pca(#[from] PcaError),
    /// There is no folder for the temporary model.
    #[error("temporary folder: {0}")]
    Temporary(std::io::Error),
}

/// Computes the pooled features of `paths` through ONNX Runtime, in the order of `paths`.
///
/// `on` is told of every image, with the error of one that is left out; it returns false to stop early.
///
/// The network's output is brought to unit length, which loses the length of the features. So it gets a layer that passes
/// the features on and adds one output that is always 1: dividing by that output undoes the normalisation.
///
/// # Errors
/// [`FitError`] if the network cannot be written, loaded or computed.
pub fn pooled_features<P: AsRef<Path> + Sync>(
    net: &EfficientNetLite,
    weights: &TensorMap,
    transform: &Transform,
    paths: &[P],
    options: &EngineOptions,
    mut on: impl FnMut(usize, Option<&ItemError>) -> bool,
) -> Result<Features, FitError> {
    let width = net.head_channels();
    let dir = tempfile::tempdir().map_err(FitError::Temporary)?;
    let mut passing = weights.clone();
    let (weight, bias) = pass_on(width);
    passing.insert("embedding.weight".to_owned(), weight);
    passing.insert("embedding.bias".to_owned(), bias);
    let request = ExportRequest {
        name: "features".to_owned(),
        architecture: Architecture::EfficientnetLite(EfficientNetLite {
            embedding_dim: Some(width + 1),
            ..net.clone()
        }),
        weights: &passing,
        transform: transform.clone(),
        lineage: bare_lineage(),
        reference: None,
    };
    write_model_dir(dir.path(), &request)?;
    let engine = Engine::load(dir.path(), options)?;
    let bulk = BulkOptions::of(&engine, options.thread_count());

    let mut found: Vec<Option<Vec<f32>>> = vec![None; paths.len()];
    embed_files(&engine, paths, &bulk, |position, result| {
        let go_on = on(position, result.as_ref().err());
        found[position] = result.ok().map(|embedding| embedding.vector);
        if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let mut features = Features { values: Vec::new(), rows: 0, width, skipped: 0 };
    for vector in found {
        match vector.as_deref().and_then(<[f32]>::split_last) {
            Some((one, rest)) => {
                features.values.extend(rest.iter().map(|value| value / one));
                features.rows += 1;
            }
            None => features.skipped += 1,
        }
    }
    Ok(features)
}

/// The lineage of a model that lives only as long as the fit.
fn bare_lineage() -> Lineage {
    Lineage {
        weights_sha256: String::new(),
        data_sha256: None,
        config_sha256: None,
        checkpoint_sha256: None,
        seed: None,
        producer: "dfml fit-embedding".to_owned(),
    }
}

/// A linear layer `[width + 1, width]` that passes its input on and appends a 1.
fn pass_on(width: usize) -> (Tensor, Tensor) {
    let mut weight = Tensor::full(vec![width + 1, width], 0.0);
    for i in 0..width {
        weight.data[i * width + i] = 1.0;
    }
    let mut bias = Tensor::full(vec![width + 1], 0.0);
    bias.data[width] = 1.0;
    (weight, bias)
}

/// The network with an embedding layer of the `dim` largest principal components of `features`.
///
/// # Errors
/// [`FitError::Pca`] if the features do not vary in `dim` directions.
pub fn add_layer(
    net: &EfficientNetLite,
    mut weights: TensorMap,
    features: &Features,
    dim: usize,
) -> Result<(EfficientNetLite, TensorMap), FitError> {
    let (weight, bias) = pca::fit(&features.values, features.rows, features.width, dim)?.linear();
    weights.insert("embedding.weight".to_owned(), weight);
    weights.insert("embedding.bias".to_owned(), bias);
    Ok((EfficientNetLite { embedding_dim: Some(dim), ..net.clone() }, weights))
}
