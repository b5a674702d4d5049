//! Multi-Similarity (Wang et al., CVPR 2019) with its miner.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::EmbeddingLoss;
use super::pairs::{Pairs, cosines, log_one_plus_sum_exp};

/// Settings of [`MultiSimilarity`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MultiSimilarityConfig {
    /// Scale of positive pairs' exponents.
    pub alpha: f64,
    /// Scale of negative pairs' exponents.
    pub beta: f64,
    /// Cosine that divides similar from dissimilar.
    pub base: f64,
    /// Slack within which the miner still keeps a pair.
    pub epsilon: f64,
}

impl Default for MultiSimilarityConfig {
    fn default() -> Self {
        Self { alpha: 2.0, beta: 50.0, base: 0.5, epsilon: 0.1 }
    }
}

/// Soft-weighted pairs on the cosine; the miner keeps a positive pair that is less similar than the anchor's most
/// similar negative, and a negative pair more similar than its least similar positive, give or take `epsilon`.
#[derive(Debug, Clone, Copy, Default)]
pub struct MultiSimilarity {
    /// Settings.
    pub config: MultiSimilarityConfig,
}

impl MultiSimilarity {
    /// The loss of `embeddings` with `labels`.
    ///
    /// # Shapes
    /// `embeddings` `[batch, dim]`, `labels` `[batch]` int64; returns a scalar.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Tensor {
        let MultiSimilarityConfig { alpha, beta, base, .. } = self.config;
        let cosine = cosines(embeddings);
        let kept = self.mine(&cosine.detach(), &Pairs::new(labels));
        let pull = log_one_plus_sum_exp(&((&cosine - base) * -alpha), &kept.positive) / alpha;
        let push = log_one_plus_sum_exp(&((&cosine - base) * beta), &kept.negative) / beta;
        (pull + push).mean(Kind::Float)
    }

    fn mine(&self, cosine: &Tensor, pairs: &Pairs) -> Pairs {
        let hardest_negative =
            cosine.masked_fill(&pairs.negative.logical_not(), f64::NEG_INFINITY).amax(1i64, true);
        let hardest_positive =
            cosine.masked_fill(&pairs.positive.logical_not(), f64::INFINITY).amin(1i64, true);
        let positive = (cosine - self.config.epsilon).less_tensor(&hardest_negative);
        let negative = (cosine + self.config.epsilon).greater_tensor(&hardest_positive);
        Pairs {
            positive: positive.logical_and(&pairs.positive),
            negative: negative.logical_and(&pairs.negative),
        }
    }
}

impl EmbeddingLoss for MultiSimilarity {
    fn loss(&self, embeddings: &Tensor, labels: &Tensor, _: &mut ChaCha8Rng) -> Tensor {
        self.forward(embeddings, labels)
    }
}
