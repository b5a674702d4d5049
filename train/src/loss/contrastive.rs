//! Contrastive loss (Hadsell et al., CVPR 2006) on all pairs of a batch.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::EmbeddingLoss;
use super::pairs::{Pairs, distances};
use crate::nn::l2_normalize;

/// Settings of [`Contrastive`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContrastiveConfig {
    /// Distance that a positive pair may have at no cost.
    pub positive_margin: f64,
    /// Distance from which on a negative pair costs nothing.
    pub negative_margin: f64,
}

impl Default for ContrastiveConfig {
    fn default() -> Self {
        Self { positive_margin: 0.0, negative_margin: 0.5 }
    }
}

/// Distances of unit vectors beyond the margins: the mean over positive pairs that cost something plus the mean over
/// such negative pairs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contrastive {
    /// Settings.
    pub config: ContrastiveConfig,
}

impl Contrastive {
    /// The loss of `embeddings` with `labels`.
    ///
    /// # Shapes
    /// `embeddings` `[batch, dim]`, `labels` `[batch]` int64; returns a scalar.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Tensor {
        let distance = distances(&l2_normalize(embeddings));
        let pairs = Pairs::new(labels);
        let pull = (&distance - self.config.positive_margin).relu();
        let push = (-&distance + self.config.negative_margin).relu();
        mean_of_costly(&pull, &pairs.positive) + mean_of_costly(&push, &pairs.negative)
    }
}

/// Mean of the pairs' costs above 0; 0 where there are none.
fn mean_of_costly(cost: &Tensor, pairs: &Tensor) -> Tensor {
    let cost = cost * pairs.to_kind(Kind::Float);
    let count = cost.greater(0.0).sum(Kind::Float).clamp_min(1.0);
    cost.sum(Kind::Float) / count
}

impl EmbeddingLoss for Contrastive {
    fn loss(&self, embeddings: &Tensor, labels: &Tensor, _: &mut ChaCha8Rng) -> Tensor {
        self.forward(embeddings, labels)
    }
}
