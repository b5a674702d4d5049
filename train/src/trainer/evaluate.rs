//! Embeds a data set with the full stream and judges it by retrieval.

use std::path::Path;

use dfml_index::metrics::{self, Labelled, Retrieval};
use dfml_models::Transform;
use tch::Device;

use crate::data::{Dataset, eval_pixels};
use crate::error::TrainError;
use crate::nn::Network;
use crate::nn::params::to_host;
use crate::progress::Progress;

/// Images per forward pass in evaluation.
const BATCH: usize = 64;

/// Embeddings of every image of `dataset`, `[images * dim]` row major, unit length.
///
/// # Errors
/// The first image that cannot be read.
pub fn embed_dataset(
    network: &dyn Network,
    dataset: &Dataset,
    transform: &Transform,
    device: Device,
    label: &str,
) -> Result<Vec<f32>, TrainError> {
    let progress = Progress::new(label, dataset.images.len() as u64);
    let mut embeddings = Vec::new();
    for chunk in dataset.images.chunks(BATCH) {
        let paths: Vec<&Path> = chunk.iter().map(|path| path.as_path()).collect();
        let (_, pixels) = eval_pixels(&paths, transform, device)?;
        embeddings.extend(to_host(&tch::no_grad(|| network.embed(&pixels))).data);
        progress.add(chunk.len() as u64);
    }
    progress.finish();
    Ok(embeddings)
}

/// Ranks at which Recall@K is reported.
const RECALL_AT: [u32; 3] = [1, 10, 100];

/// Leave-one-out retrieval among `embeddings` `[labels.len() * dim]` of unit length.
///
/// # Errors
/// [`TrainError::Metrics`] if there is nothing to judge or an embedding is not finite.
pub fn evaluate(embeddings: &[f32], labels: &[usize]) -> Result<Retrieval, TrainError> {
    let dim = embeddings.len() / labels.len().max(1);
    Ok(metrics::evaluate(Labelled { vectors: embeddings, dim, labels }, None, &RECALL_AT)?)
}

/// Recall@1 and MAP@R in one line.
pub fn summary(figures: &Retrieval) -> String {
    let recall = figures.recall_at_k.get(&1).copied().unwrap_or_default();
    format!("Recall@1 {recall:.4}, R-precision {:.4}, MAP@R {:.4}", figures.r_precision, figures.map_at_r)
}
