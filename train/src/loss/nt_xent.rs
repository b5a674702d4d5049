//! NT-Xent: normalised temperature-scaled cross-entropy (Chen et al., ICML 2020), with labels.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::EmbeddingLoss;
use super::pairs::{Pairs, cosines, nothing};

/// Settings of [`NtXent`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NtXentConfig {
    /// Divides the cosines.
    pub temperature: f64,
}

impl Default for NtXentConfig {
    fn default() -> Self {
        Self { temperature: 0.07 }
    }
}

/// Cross-entropy of every positive pair against all negatives of its anchor, on the cosine, averaged over positive
/// pairs.
#[derive(Debug, Clone, Copy, Default)]
pub struct NtXent {
    /// Settings.
    pub config: NtXentConfig,
}

impl NtXent {
    /// The loss of `embeddings` with `labels`.
    ///
    /// # Shapes
    /// `embeddings` `[batch, dim]`, `labels` `[batch]` int64; returns a scalar.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Tensor {
        let pairs = Pairs::new(labels);
        let any = |mask: &Tensor| mask.any().int64_value(&[]) != 0;
        if !any(&pairs.positive) || !any(&pairs.negative) {
            return nothing(embeddings);
        }
        let logits = cosines(embeddings) / self.config.temperature;
        // Finite, unlike minus infinity, for an anchor without negatives: its own term must not become NaN.
        let others = logits.masked_fill(&pairs.negative.logical_not(), -1e30).logsumexp(1i64, true);
        let cost = logits.logaddexp(&others) - &logits;
        cost.masked_select(&pairs.positive).mean(Kind::Float)
    }
}

impl EmbeddingLoss for NtXent {
    fn loss(&self, embeddings: &Tensor, labels: &Tensor, _: &mut ChaCha8Rng) -> Tensor {
        self.forward(embeddings, labels)
    }
}
