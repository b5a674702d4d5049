//! An exponential moving average of the weights.

use dfml_models::TensorMap;
use tch::Tensor;

use super::optimizer::copy_into;
use crate::error::TrainError;
use crate::nn::Params;
use crate::nn::params::{Group, to_host};

/// Averages of a network's tensors; running statistics are averaged like weights.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    /// Name, the network's tensor, its average.
    tensors: Vec<(String, Tensor, Tensor)>,
}

impl Ema {
    /// Starts from the weights as they are.
    pub fn new(params: &Params, decay: f64) -> Self {
        let tensors = params.iter().map(|(name, param)| {
            let average = tch::no_grad(|| param.tensor.detach().copy());
            (name.to_owned(), param.tensor.shallow_clone(), average)
        });
        Self { decay, tensors: tensors.collect() }
    }

    /// Takes the weights of a step in.
    pub fn update(&mut self) {
        tch::no_grad(|| {
            for (_, weight, average) in &mut self.tensors {
                let _ = average.g_mul_scalar_(self.decay);
                *average += &*weight * (1.0 - self.decay);
            }
        });
    }

    /// Exchanges weights and averages; a second call undoes it.
    pub fn swap(&mut self) {
        tch::no_grad(|| {
            for (_, weight, average) in &mut self.tensors {
                let kept = weight.detach().copy();
                weight.copy_(average);
                average.copy_(&kept);
            }
        });
    }

    /// The averages by name.
    pub fn state(&self) -> TensorMap {
        self.tensors.iter().map(|(name, _, average)| (name.clone(), to_host(average))).collect()
    }

    /// Goes on from a [`state`](Self::state).
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, by name.
    pub fn restore(&mut self, state: &TensorMap) -> Result<(), TrainError> {
        self.tensors.iter_mut().try_for_each(|(name, _, average)| copy_into(average, state, name))
    }
}

/// Overwrites the tensors of a network with those of `state`.
///
/// # Errors
/// A tensor that is missing or of another shape, by name.
pub(super) fn restore_params(params: &Params, state: &TensorMap) -> Result<(), TrainError> {
    params.iter().try_for_each(|(name, param)| copy_into(&mut param.tensor.shallow_clone(), state, name))
}

/// Whether every weight is finite.
pub(super) fn params_are_finite(params: &Params) -> bool {
    let trained = params.iter().filter(|(_, param)| param.group != Group::Buffer);
    trained.into_iter().all(|(_, param)| param.tensor.isfinite().all().int64_value(&[]) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_and_swap_with_the_weights() {
        let mut params = Params::new();
        let mut weight = params.insert("w".into(), Tensor::from_slice(&[0f32, 8.]), Group::Backbone);
        let mut ema = Ema::new(&params, 0.75);
        tch::no_grad(|| weight += 4.0);
        ema.update();
        ema.swap();
        assert_eq!(to_host(&weight).data, [1.0, 9.0]);
        ema.swap();
        assert_eq!(to_host(&weight).data, [4.0, 12.0]);

        let state = ema.state();
        let mut other = Ema::new(&params, 0.75);
        other.restore(&state).unwrap();
        assert_eq!(other.state(), state);
        restore_params(&params, &state).unwrap();
        assert_eq!(to_host(&weight).data, [1.0, 9.0]);
        assert!(params_are_finite(&params));
        tch::no_grad(|| weight *= f64::INFINITY);
        assert!(!params_are_finite(&params));
    }
}
