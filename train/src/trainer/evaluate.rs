//! Embeds data sets with a network and judges it: retrieval, clusters, classification.

use dfml_index::metrics::{self, Clustering, Labelled, Retrieval};
use dfml_models::Transform;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::Objective;
use crate::config::BadImage;
use crate::data::{Dataset, TestSet, eval_pixels};
use crate::error::TrainError;
use crate::loss::Accuracy;
use crate::nn::params::to_host;
use crate::nn::{Effort, Network, l2_normalize};
use crate::progress::Progress;

/// Images per forward pass in evaluation.
const BATCH: usize = 64;
/// Seed of k-means, that of `dfml eval`.
const CLUSTER_SEED: u64 = 1;

/// How images are read for an evaluation, and where it is computed.
#[derive(Debug, Clone, Copy)]
pub struct EvalOptions<'a> {
    /// From image to pixels.
    pub transform: &'a Transform,
    /// What to do with an image that cannot be decoded.
    pub on_bad_image: BadImage,
    /// The network's device.
    pub device: Device,
    /// How much of the network runs.
    pub effort: Effort,
}

/// Embeddings of the images of a data set that could be read.
#[derive(Debug, Clone, Default)]
pub struct Embedded {
    /// `[kept.len() * dim]`, unit length.
    pub vectors: Vec<f32>,
    /// Length of an embedding.
    pub dim: usize,
    /// Class of each.
    pub labels: Vec<usize>,
    /// Index of each in the data set.
    pub kept: Vec<usize>,
    /// How often the classifier is right, if there is one.
    pub accuracy: Option<Accuracy>,
}

impl Embedded {
    /// For [`metrics`].
    pub fn labelled(&self) -> Labelled<'_, usize> {
        Labelled { vectors: &self.vectors, dim: self.dim, labels: &self.labels }
    }
}

/// Embeds every image of `dataset`; with `classifier`, also counts how often it is right.
///
/// # Errors
/// The first image that cannot be read, unless bad ones are left out.
pub fn embed_dataset(
    network: &dyn Network,
    dataset: &Dataset,
    options: EvalOptions<'_>,
    classifier: Option<&Objective>,
    label: &str,
) -> Result<Embedded, TrainError> {
    let progress = Progress::new(label, dataset.images.len() as u64);
    let mut out = Embedded { dim: network.architecture().embedding_dim(), ..Embedded::default() };
    for (chunk, paths) in dataset.images.chunks(BATCH).enumerate() {
        let batch = eval_pixels(paths, options.transform, options.on_bad_image, options.device)?;
        progress.add(paths.len() as u64);
        if batch.kept.is_empty() {
            continue;
        }
        let kept: Vec<usize> = batch.kept.iter().map(|index| chunk * BATCH + index).collect();
        let labels: Vec<usize> = kept.iter().map(|&image| dataset.labels[image]).collect();
        tch::no_grad(|| {
            let raw = network.raw(&batch.pixels, options.effort).to_kind(Kind::Float);
            out.vectors.extend(to_host(&l2_normalize(&raw)).data);
            if let Some(scores) = classifier.and_then(|objective| objective.class_scores(&raw)) {
                let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
                let labels = Tensor::from_slice(&labels).to_device(options.device);
                out.accuracy.get_or_insert_default().add(&scores, &labels);
            }
        });
        out.labels.extend(labels);
        out.kept.extend(kept);
    }
    progress.finish();
    if out.kept.len() < dataset.images.len() {
        let missing = dataset.images.len() - out.kept.len();
        eprintln!("warning: {label}: {missing} images could not be decoded and were left out");
    }
    Ok(out)
}

/// How good a network is on a test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Retrieval.
    pub retrieval: Retrieval,
    /// Agreement of k-means clusters of the gallery with its classes, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clustering: Option<Clustering>,
    /// Share of images whose class the classifier puts first, and among the first five.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1_top5: Option<(f64, f64)>,
}

impl Quality {
    /// The figures on one line.
    pub fn one_line(&self) -> String {
        let mut text = self.retrieval.one_line();
        if let Some(clustering) = &self.clustering {
            text += &format!("  {}", clustering.one_line());
        }
        if let Some((top1, top5)) = self.top1_top5 {
            text += &format!("  top-1 {top1:.4}  top-5 {top5:.4}");
        }
        text
    }

    /// What the best epoch is chosen by: top-1 of a classifier, else Recall@1, and MAP@R between equals.
    pub fn score(&self) -> (f64, f64) {
        let recall = self.retrieval.recall_at_k.get(&1).copied().unwrap_or_default();
        (self.top1_top5.map_or(recall, |(top1, _)| top1), self.retrieval.map_at_r)
    }
}

/// Embeddings of a test set.
#[derive(Debug)]
pub struct EmbeddedTest {
    /// What is searched.
    pub gallery: Embedded,
    /// What is searched with, if it is not the gallery itself.
    pub queries: Option<Embedded>,
}

/// Embeds a test set and judges the network by it. `recall_at` must hold 1. Clusters cost time and are found only if asked for.
///
/// # Errors
/// An image that cannot be read; nothing to judge; an embedding that is not finite.
pub fn judge(
    network: &dyn Network,
    test: &TestSet,
    options: EvalOptions<'_>,
    classifier: Option<&Objective>,
    recall_at: &[u32],
    with_clusters: bool,
    label: &str,
) -> Result<(Quality, EmbeddedTest), TrainError> {
    let classifier = classifier.filter(|_| test.has_training_classes);
    let gallery = embed_dataset(network, &test.gallery, options, classifier, label)?;
    let queries = test
        .queries
        .as_ref()
        .map(|queries| embed_dataset(network, queries, options, None, &format!("{label} (queries)")))
        .transpose()?;
    let retrieval =
        metrics::evaluate(gallery.labelled(), queries.as_ref().map(Embedded::labelled), recall_at)?;
    let clustering =
        with_clusters.then(|| metrics::cluster_quality(gallery.labelled(), CLUSTER_SEED)).transpose()?;
    let top1_top5 = gallery.accuracy.map(|accuracy| (accuracy.top1(), accuracy.top5()));
    Ok((Quality { retrieval, clustering, top1_top5 }, EmbeddedTest { gallery, queries }))
}
