//! DFML's objective: a loss on both streams and the distillation between them.

use dfml_models::{Architecture, TensorMap};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::optimizer::copy_into;
use crate::config::LossConfig;
use crate::error::TrainError;
use crate::loss::{EmbeddingLoss, LossKind, Softmax};
use crate::nn::{Network, StreamOutput};

/// The terms of one step's loss.
#[derive(Debug)]
pub struct StepLoss {
    /// What is minimised, a scalar with gradient.
    pub total: Tensor,
    /// Loss of the full stream.
    pub full: f64,
    /// Loss of the routed stream; 0 where that stream is not trained.
    pub routed: f64,
    /// `0.1 * sum ||routed - sg(full)|| + gaps`; 0 likewise.
    pub distill: f64,
    /// Chosen sub-block per router, as [`crate::nn::TrainOutput::routes`].
    pub routes: Vec<Tensor>,
}

/// What a stream is judged by.
#[derive(Debug)]
enum Head {
    /// A metric-learning loss, on normalised embeddings.
    Metric(Box<dyn EmbeddingLoss>),
    /// A classifier, on features that are not normalised.
    Classifier(Softmax),
}

/// A loss on the full and the routed stream, and the distillation terms (DFML, official `train.py`).
#[derive(Debug)]
pub struct Objective {
    head: Head,
    config: LossConfig,
    mixed: bool,
}

impl Objective {
    /// The objective of a configuration for `classes` classes and embeddings of `architecture`; with `mixed`, networks run under CUDA's
    /// autocast (the losses themselves always in 32 bits). A classifier is that of the pretrained `weights` if it fits; other learned
    /// tensors are drawn from libtorch's global generator.
    pub fn new(
        config: &LossConfig,
        architecture: &Architecture,
        weights: &TensorMap,
        classes: usize,
        mixed: bool,
        device: Device,
    ) -> Self {
        let dim = architecture.embedding_dim() as i64;
        let head = match config.metric {
            LossKind::Softmax(softmax) => Head::Classifier(
                Softmax::pretrained(softmax, architecture, weights, classes, device)
                    .unwrap_or_else(|| Softmax::new(softmax, classes as i64, dim, device)),
            ),
            ref metric => Head::Metric(metric.build(classes as i64, dim, device)),
        };
        Self { head, config: config.clone(), mixed }
    }

    /// The loss's own learned tensors by name.
    pub fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        match &self.head {
            Head::Metric(loss) => loss.parameters(),
            Head::Classifier(softmax) => softmax.parameters(),
        }
    }

    /// Overwrites the loss's own tensors with those of `state`.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn restore(&self, state: &TensorMap) -> Result<(), TrainError> {
        let mut own = self.parameters().into_iter();
        own.try_for_each(|(name, tensor)| copy_into(&mut tensor.shallow_clone(), state, name))
    }

    /// Class scores `[batch, classes]` of features `[batch, dim]` that are not normalised; `None` unless it trains a classifier.
    pub fn class_scores(&self, raw: &Tensor) -> Option<Tensor> {
        match &self.head {
            Head::Metric(_) => None,
            Head::Classifier(softmax) => Some(softmax.logits(raw)),
        }
    }

    fn of_stream(&self, stream: &StreamOutput, labels: &Tensor, rng: &mut ChaCha8Rng) -> Tensor {
        match &self.head {
            Head::Metric(loss) => loss.loss(&stream.embedding.to_kind(Kind::Float), labels, rng),
            Head::Classifier(softmax) => softmax.forward(&stream.raw.to_kind(Kind::Float), labels),
        }
    }

    /// The loss of `network` on `pixels` `[batch, 3, h, w]` with `labels` `[batch]`; losses that draw pairs draw from `rng`.
    pub fn loss(
        &self,
        network: &dyn Network,
        pixels: &Tensor,
        labels: &Tensor,
        rng: &mut ChaCha8Rng,
    ) -> StepLoss {
        if !self.config.is_routed() {
            let out = tch::autocast(self.mixed, || network.forward_plain(pixels));
            let total = self.of_stream(&out, labels, rng);
            let full = total.double_value(&[]);
            return StepLoss { total, full, routed: 0.0, distill: 0.0, routes: Vec::new() };
        }
        let out = tch::autocast(self.mixed, || network.forward_train(pixels));
        let full = self.of_stream(&out.full, labels, rng);
        let routed = self.of_stream(&out.routed, labels, rng);
        let to_full =
            out.routed.embedding.to_kind(Kind::Float) - out.full.embedding.detach().to_kind(Kind::Float);
        let apart = to_full.square().sum_dim_intlist(-1i64, false, Kind::Float);
        let distill = (apart + 1e-12).sqrt().sum(Kind::Float) * 0.1 + out.gap.to_kind(Kind::Float);
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
