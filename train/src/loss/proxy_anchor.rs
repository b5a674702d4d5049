//! Proxy-Anchor (Kim et al., CVPR 2020).

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::EmbeddingLoss;
use crate::nn::l2_normalize;

/// Settings of [`ProxyAnchor`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyAnchorConfig {
    /// Margin added to and taken from the cosine.
    pub margin: f64,
    /// Scale of the exponents.
    pub alpha: f64,
}

impl Default for ProxyAnchorConfig {
    fn default() -> Self {
        Self { margin: 0.1, alpha: 32.0 }
    }
}

/// Proxy-Anchor loss with one learned proxy per class.
#[derive(Debug)]
pub struct ProxyAnchor {
    /// Proxies `[classes, dim]`, a leaf that requires gradient.
    pub proxies: Tensor,
    /// Margin added to and taken from the cosine.
    pub margin: f64,
    /// Scale of the exponents.
    pub alpha: f64,
}

impl ProxyAnchor {
    /// Fresh proxies, drawn kaiming-normal (fan out) as in the official code from libtorch's global generator.
    pub fn new(classes: i64, dim: i64, margin: f64, alpha: f64, device: Device) -> Self {
        // kaiming_normal_(mode="fan_out") of a [classes, dim] matrix: std = sqrt(2 / classes).
        let std = (2.0 / classes.max(1) as f64).sqrt();
        Self::from_proxies(Tensor::randn([classes, dim], (Kind::Float, device)) * std, margin, alpha)
    }

    /// Goes on from given `proxies` `[classes, dim]` of any length, for instance a checkpoint's.
    pub fn from_proxies(proxies: Tensor, margin: f64, alpha: f64) -> Self {
        Self { proxies: proxies.detach().set_requires_grad(true), margin, alpha }
    }

    /// The loss of `embeddings` with `labels`.
    ///
    /// # Shapes
    /// `embeddings` `[batch, dim]`, `labels` `[batch]` int64 in `0..classes`; returns a scalar.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Tensor {
        let classes = self.proxies.size()[0];
        let cosine = l2_normalize(embeddings).matmul(&l2_normalize(&self.proxies).transpose(0, 1));
        let positive = labels.one_hot(classes).to_kind(Kind::Float);
        let negative = positive.ones_like() - &positive;
        let pull = ((&cosine - self.margin) * -self.alpha).exp() * &positive;
        let push = ((&cosine + self.margin) * self.alpha).exp() * negative;
        let present = positive.sum_dim_intlist(0i64, false, Kind::Float).not_equal(0.0);
        let present = present.sum(Kind::Float);
        let pull = pull.sum_dim_intlist(0i64, false, Kind::Float).log1p().sum(Kind::Float) / present;
        let push = push.sum_dim_intlist(0i64, false, Kind::Float).log1p().sum(Kind::Float) / classes as f64;
        pull + push
    }
}

impl EmbeddingLoss for ProxyAnchor {
    fn loss(&self, embeddings: &Tensor, labels: &Tensor, _: &mut ChaCha8Rng) -> Tensor {
        self.forward(embeddings, labels)
    }

    fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("proxies", &self.proxies)]
    }
}
