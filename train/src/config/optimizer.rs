//! Settings of the optimiser and its schedule.

use serde::{Deserialize, Serialize};

use super::{positive, within};

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Falls by a cosine to zero at the last step.
    Cosine,
    /// Multiplied by `gamma` every `epochs` epochs (torch's StepLR).
    Step {
        /// Epochs between two falls.
        epochs: usize,
        /// Factor per fall.
        gamma: f64,
    },
}

/// How gradients become steps; the arithmetic of torch.optim.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Algorithm {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    #[serde(rename = "adamw")]
    AdamW,
    /// Adam (Kingma and Ba 2015); weight decay is added to the gradient.
    Adam,
    /// Gradient descent with momentum.
    Sgd {
        /// Share of the last step that is kept, [0, 1).
        momentum: f64,
        /// Nesterov's momentum.
        #[serde(default)]
        nesterov: bool,
    },
    /// RMSprop (Hinton 2012).
    #[serde(rename = "rmsprop")]
    RmsProp {
        /// Decay of the mean square, [0, 1).
        alpha: f64,
        /// Share of the last step that is kept, [0, 1).
        #[serde(default)]
        momentum: f64,
    },
}

/// The optimiser and its schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Passes over the training list.
    pub epochs: usize,
    /// Learning rate of the pretrained weights.
    pub learning_rate: f64,
    /// Factor on it for the loss's own tensors (proxies, classifier).
    pub proxy_factor: f64,
    /// Factor on it for the embedding layer.
    pub embedding_factor: f64,
    /// Factor on it for the routers.
    pub router_factor: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Gradient values are clipped to ± this.
    pub clip_value: f64,
    /// First epochs in which only the loss's own tensors are trained (fractions allowed).
    pub warm_epochs: f64,
    /// Batches whose gradients are averaged into one step.
    pub accumulate: usize,
    /// Decay of an exponential moving average of the weights, which is then what is judged and exported; 0 keeps none.
    pub ema_decay: f64,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// How gradients become steps.
    pub algorithm: Algorithm,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            epochs: 60,
            learning_rate: 1e-4,
            proxy_factor: 100.0,
            embedding_factor: 1.0,
            router_factor: 1.0,
            weight_decay: 1e-4,
            clip_value: 10.0,
            warm_epochs: 1.0,
            accumulate: 1,
            ema_decay: 0.0,
            schedule: Schedule::Step { epochs: 10, gamma: 0.5 },
            algorithm: Algorithm::AdamW,
        }
    }
}

impl OptimizerConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        positive("optimizer.epochs", self.epochs)?;
        positive("optimizer.accumulate", self.accumulate)?;
        within("optimizer.learning_rate", self.learning_rate, f64::MIN_POSITIVE, f64::MAX)?;
        within("optimizer.weight_decay", self.weight_decay, 0.0, f64::MAX)?;
        within("optimizer.clip_value", self.clip_value, f64::MIN_POSITIVE, f64::MAX)?;
        within("optimizer.warm_epochs", self.warm_epochs, 0.0, f64::MAX)?;
        let below_one = |name: &str, value| within(name, value, 0.0, 1.0 - f64::EPSILON);
        below_one("optimizer.ema_decay", self.ema_decay)?;
        match self.algorithm {
            Algorithm::Sgd { momentum, .. } => below_one("optimizer.algorithm.momentum", momentum),
            Algorithm::RmsProp { alpha, momentum } => {
                below_one("optimizer.algorithm.alpha", alpha)?;
                below_one("optimizer.algorithm.momentum", momentum)
            }
            Algorithm::AdamW | Algorithm::Adam => Ok(()),
        }
    }
}
