//! How a gradient becomes a step: the arithmetic of torch.optim.

use tch::Tensor;

use crate::config::Algorithm;

/// Decays of Adam's moments.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
/// Added to the root of the second moment.
const EPS: f64 = 1e-8;

/// An algorithm with its weight decay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) algorithm: Algorithm,
    pub(super) weight_decay: f64,
}

/// What is remembered of a tensor's gradients.
#[derive(Debug)]
pub(super) struct Moments {
    /// First moment, or momentum.
    pub(super) first: Option<Tensor>,
    /// Second moment, or mean square.
    pub(super) second: Option<Tensor>,
    /// Steps done.
    pub(super) steps: i32,
}

impl Rule {
    /// The memory of `tensor` before the first step.
    pub(super) fn start(self, tensor: &Tensor) -> Moments {
        let (first, second) = match self.algorithm {
            Algorithm::AdamW | Algorithm::Adam => (true, true),
            Algorithm::Sgd { momentum, .. } => (momentum > 0.0, false),
            Algorithm::RmsProp { momentum, .. } => (momentum > 0.0, true),
        };
        let zeros = |wanted: bool| wanted.then(|| tensor.zeros_like());
        Moments { first: zeros(first), second: zeros(second), steps: 0 }
    }

    /// One step of `tensor` at `rate`; without autograd.
    pub(super) fn apply(self, tensor: &mut Tensor, gradient: Tensor, moments: &mut Moments, rate: f64) {
        moments.steps += 1;
        let gradient = if self.algorithm == Algorithm::AdamW {
            let _ = tensor.g_mul_scalar_(1.0 - rate * self.weight_decay);
            gradient
        } else {
            gradient + &*tensor * self.weight_decay
        };
        match self.algorithm {
            Algorithm::AdamW | Algorithm::Adam => adam(tensor, &gradient, moments, rate),
            Algorithm::Sgd { momentum, nesterov } => sgd(tensor, gradient, moments, rate, momentum, nesterov),
            Algorithm::RmsProp { alpha, momentum } => {
                rms_prop(tensor, gradient, moments, rate, alpha, momentum)
            }
        }
    }
}

fn adam(tensor: &mut Tensor, gradient: &Tensor, moments: &mut Moments, rate: f64) {
    let Moments { first: Some(first), second: Some(second), steps } = moments else { return };
    let _ = first.g_mul_scalar_(BETA1);
    *first += gradient * (1.0 - BETA1);
    let _ = second.g_mul_scalar_(BETA2);
    *second += gradient.square() * (1.0 - BETA2);
    let (correction1, correction2) = (1.0 - BETA1.powi(*steps), 1.0 - BETA2.powi(*steps));
    let denominator = second.sqrt() / correction2.sqrt() + EPS;
    *tensor -= &*first / denominator * (rate / correction1);
}

fn sgd(
    tensor: &mut Tensor,
    gradient: Tensor,
    moments: &mut Moments,
    rate: f64,
    momentum: f64,
    nesterov: bool,
) {
    let step = match &mut moments.first {
        None => gradient,
        Some(kept) => {
            // The first step keeps the whole gradient, as the memory is 0 before it.
            let _ = kept.g_mul_scalar_(momentum);
            *kept += &gradient;
            if nesterov { gradient + &*kept * momentum } else { kept.shallow_clone() }
        }
    };
    *tensor -= step * rate;
}

fn rms_prop(
    tensor: &mut Tensor,
    gradient: Tensor,
    moments: &mut Moments,
    rate: f64,
    alpha: f64,
    momentum: f64,
) {
    let Some(square) = &mut moments.second else { return };
    let _ = square.g_mul_scalar_(alpha);
    *square += gradient.square() * (1.0 - alpha);
    let step = gradient / (square.sqrt() + EPS);
    match &mut moments.first {
        None => *tensor -= step * rate,
        Some(kept) => {
            let _ = kept.g_mul_scalar_(momentum);
            *kept += step;
            *tensor -= &*kept * rate;
        }
    }
}
