//! DFML's objective: Proxy-Anchor on both streams and the distillation between them.

use tch::{Kind, Tensor};

use crate::config::LossConfig;
use crate::loss::ProxyAnchor;
use crate::nn::Network;

/// The terms of one step's loss.
#[derive(Debug)]
pub struct StepLoss {
    /// What is minimised, a scalar with gradient.
    pub total: Tensor,
    /// Proxy-Anchor of the full stream.
    pub full: f64,
    /// Proxy-Anchor of the routed stream; 0 where that stream is not trained.
    pub routed: f64,
    /// `0.1 * sum ||routed - sg(full)|| + gaps`; 0 likewise.
    pub distill: f64,
    /// Chosen sub-block per router, as [`crate::nn::TrainOutput::routes`].
    pub routes: Vec<Tensor>,
}

/// Proxy-Anchor on the full and the routed embedding, and the distillation terms (DFML, official `train.py`).
#[derive(Debug)]
pub struct Objective {
    /// The proxies and their loss.
    pub proxy_anchor: ProxyAnchor,
    /// Weights of the terms.
    pub config: LossConfig,
}

impl Objective {
    /// The loss of `network` on `pixels` `[batch, 3, h, w]` with `labels` `[batch]`.
    pub fn loss(&self, network: &dyn Network, pixels: &Tensor, labels: &Tensor) -> StepLoss {
        if !self.config.is_routed() {
            let total = self.proxy_anchor.forward(&network.forward_plain(pixels).embedding, labels);
            let full = total.double_value(&[]);
            return StepLoss { total, full, routed: 0.0, distill: 0.0, routes: Vec::new() };
        }
        let out = network.forward_train(pixels);
        let (full_embedding, routed_embedding) = (&out.full.embedding, &out.routed.embedding);
        let full = self.proxy_anchor.forward(full_embedding, labels);
        let routed = self.proxy_anchor.forward(routed_embedding, labels);
        let apart =
            (routed_embedding - full_embedding.detach()).square().sum_dim_intlist(-1i64, false, Kind::Float);
        let distill = (apart + 1e-12).sqrt().sum(Kind::Float) * 0.1 + out.gap;
        let total = &full + &routed * self.config.routed + &distill * self.config.distill;
        StepLoss {
            full: full.double_value(&[]),
            routed: routed.double_value(&[]),
            distill: distill.double_value(&[]),
            total,
            routes: out.routes,
        }
    }
}
