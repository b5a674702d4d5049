//! N-pair loss (Sohn, NeurIPS 2016).

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::EmbeddingLoss;
use super::pairs::{nothing, to_host_labels};
use crate::nn::l2_normalize;

/// Settings of [`NPair`]: there are none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NPairConfig {}

/// One pair per class: its first two images of the batch. Cross-entropy of each first image's dot products with all
/// second images, of unit vectors.
#[derive(Debug, Clone, Copy, Default)]
pub struct NPair;

impl NPair {
    /// The loss of `embeddings` with `labels`.
    ///
    /// # Shapes
    /// `embeddings` `[batch, dim]`, `labels` `[batch]` int64; returns a scalar.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Tensor {
        let pairs = first_pairs(&to_host_labels(labels));
        if pairs.is_empty() {
            return nothing(embeddings);
        }
        let unit = l2_normalize(embeddings);
        let rows = |of: fn(&(i64, i64)) -> i64| {
            let index = Tensor::from_slice(&pairs.iter().map(of).collect::<Vec<_>>());
            unit.index_select(0, &index.to_device(unit.device()))
        };
        let similarity = rows(|pair| pair.0).matmul(&rows(|pair| pair.1).transpose(0, 1));
        let own = Tensor::arange(pairs.len() as i64, (tch::Kind::Int64, unit.device()));
        similarity.cross_entropy_for_logits(&own)
    }
}

/// The first two places of each label that has two, by label.
fn first_pairs(labels: &[i64]) -> Vec<(i64, i64)> {
    let mut seen: std::collections::BTreeMap<i64, Vec<i64>> = std::collections::BTreeMap::new();
    for (place, &label) in labels.iter().enumerate() {
        seen.entry(label).or_default().push(place as i64);
    }
    seen.into_values().filter(|places| places.len() > 1).map(|places| (places[0], places[1])).collect()
}

impl EmbeddingLoss for NPair {
    fn loss(&self, embeddings: &Tensor, labels: &Tensor, _: &mut ChaCha8Rng) -> Tensor {
        self.forward(embeddings, labels)
    }
}
