//! Proxy-NCA (Movshovitz-Attias et al., ICCV 2017), in the form of the official DFML code.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::EmbeddingLoss;
use crate::nn::l2_normalize;

/// Settings of [`ProxyNca`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyNcaConfig {
    /// Length that embeddings and proxies are normalised to.
    pub scale: f64,
}

impl Default for ProxyNcaConfig {
    fn default() -> Self {
        Self { scale: 3.0 }
    }
}

/// Pulls an embedding to its class's proxy, away from all others: squared distance to the one plus the log-sum-exp of
/// the negated squared distances to the others, averaged over the batch.
#[derive(Debug)]
pub struct ProxyNca {
    /// Proxies `[classes, dim]`, a leaf that requires gradient.
    pub proxies: Tensor,
    /// Settings.
    pub config: ProxyNcaConfig,
}

impl ProxyNca {
    /// Fresh proxies from libtorch's global generator: normal, standard deviation 1/8.
    pub fn new(config: ProxyNcaConfig, classes: i64, dim: i64, device: Device) -> Self {
        Self::from_proxies(config, Tensor::randn([classes, dim], (Kind::Float, device)) / 8.0)
    }

    /// Goes on from given `proxies` `[classes, dim]`.
    pub fn from_proxies(config: ProxyNcaConfig, proxies: Tensor) -> Self {
        Self { proxies: proxies.detach().set_requires_grad(true), config }
    }

    /// The loss of `embeddings` with `labels`.
    ///
    /// # Shapes
    /// `embeddings` `[batch, dim]`, `labels` `[batch]` int64 in `0..classes`; returns a scalar.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Tensor {
        let proxies = l2_normalize(&self.proxies);
        let cosine = l2_normalize(embeddings).matmul(&proxies.transpose(0, 1));
        // Of two vectors of length s: |a - b|^2 = 2 s^2 (1 - cos).
        let squared = (cosine.ones_like() - cosine) * (2.0 * self.config.scale * self.config.scale);
        let own = labels.one_hot(self.proxies.size()[0]).to_kind(Kind::Bool);
        let pull = squared.masked_select(&own);
        let push = (-squared).masked_fill(&own, f64::NEG_INFINITY).logsumexp(1i64, false);
        (pull + push).mean(Kind::Float)
    }
}

impl EmbeddingLoss for ProxyNca {
    fn loss(&self, embeddings: &Tensor, labels: &Tensor, _: &mut ChaCha8Rng) -> Tensor {
        self.forward(embeddings, labels)
    }

    fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("proxies", &self.proxies)]
    }
}
