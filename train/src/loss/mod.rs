//! Metric-learning losses, one per file, each with its settings.
//!
//! Every loss maps embeddings `[batch, dim]` (normalised or not: each normalises as its authors do) and labels
//! `[batch]` (int64, `0..classes`) to a scalar. A batch that holds nothing to learn from (no two images of one class,
//! or one class only, for the losses that compare images) gives 0 with a zero gradient, never NaN.

mod accuracy;
mod contrastive;
mod margin;
mod multi_similarity;
mod n_pair;
mod nt_xent;
mod pairs;
mod proxy_anchor;
mod proxy_nca;
mod softmax;
mod triplet;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

pub use accuracy::Accuracy;
pub use contrastive::{Contrastive, ContrastiveConfig};
pub use margin::{Margin, MarginConfig};
pub use multi_similarity::{MultiSimilarity, MultiSimilarityConfig};
pub use n_pair::{NPair, NPairConfig};
pub use nt_xent::{NtXent, NtXentConfig};
pub use proxy_anchor::{ProxyAnchor, ProxyAnchorConfig};
pub use proxy_nca::{ProxyNca, ProxyNcaConfig};
pub use softmax::{Softmax, SoftmaxConfig};
pub use triplet::{Triplet, TripletConfig};

/// A loss of labelled embeddings.
pub trait EmbeddingLoss: std::fmt::Debug {
    /// The loss of a batch. Losses that sample pairs or triplets draw from `rng`; the others leave it alone.
    ///
    /// # Shapes
    /// `embeddings` `[batch, dim]`, `labels` `[batch]` int64 in `0..classes`; returns a scalar.
    fn loss(&self, embeddings: &Tensor, labels: &Tensor, rng: &mut ChaCha8Rng) -> Tensor;

    /// Its own learned tensors by name: leaves that require gradient.
    fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        Vec::new()
    }
}

/// Which loss, with its settings; missing settings take the official code's values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LossKind {
    /// [`ProxyAnchor`]
    ProxyAnchor(ProxyAnchorConfig),
    /// [`ProxyNca`]
    ProxyNca(ProxyNcaConfig),
    /// [`MultiSimilarity`]
    MultiSimilarity(MultiSimilarityConfig),
    /// [`Contrastive`]
    Contrastive(ContrastiveConfig),
    /// [`Triplet`]
    Triplet(TripletConfig),
    /// [`NPair`]
    NPair(NPairConfig),
    /// [`NtXent`]
    NtXent(NtXentConfig),
    /// [`Margin`]
    Margin(MarginConfig),
    /// [`Softmax`]
    Softmax(SoftmaxConfig),
}

impl Default for LossKind {
    fn default() -> Self {
        Self::ProxyAnchor(ProxyAnchorConfig::default())
    }
}

impl LossKind {
    /// The loss for `classes` classes and embeddings of length `dim`; learned tensors are drawn from libtorch's global
    /// generator.
    pub fn build(&self, classes: i64, dim: i64, device: Device) -> Box<dyn EmbeddingLoss> {
        match *self {
            Self::ProxyAnchor(config) => {
                Box::new(ProxyAnchor::new(classes, dim, config.margin, config.alpha, device))
            }
            Self::ProxyNca(config) => Box::new(ProxyNca::new(config, classes, dim, device)),
            Self::MultiSimilarity(config) => Box::new(MultiSimilarity { config }),
            Self::Contrastive(config) => Box::new(Contrastive { config }),
            Self::Triplet(config) => Box::new(Triplet { config }),
            Self::NPair(_) => Box::new(NPair),
            Self::NtXent(config) => Box::new(NtXent { config }),
            Self::Margin(config) => Box::new(Margin::new(config, classes, device)),
            Self::Softmax(config) => Box::new(Softmax::new(config, classes, dim, device)),
        }
    }
}
