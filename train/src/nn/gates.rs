//! Where routers come from: the weights, or a seed.

use dfml_models::{Tensor as HostTensor, TensorMap};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use super::fresh::normal;
use super::params::{Group, Params, from_host};
use crate::error::TrainError;

/// How fresh router weights are distributed.
#[derive(Debug, Clone, Copy)]
pub(super) enum GateInit {
    /// Normally, with timm's standard deviation for every linear layer, as in the official code.
    Timm,
    /// Uniformly in ±1/sqrt(inputs), torch's default for a linear layer.
    Torch,
}

/// timm's standard deviation.
const TIMM_STD: f64 = 0.02;

/// Makes the routers of one network.
pub(super) struct Gates<'a> {
    weights: &'a TensorMap,
    init: GateInit,
    device: Device,
    /// Whether the weights hold any router: then blocks without one are not routed.
    given: bool,
}

impl<'a> Gates<'a> {
    pub(super) fn new(weights: &'a TensorMap, init: GateInit, device: Device) -> Self {
        let given = weights.keys().any(|name| name.ends_with("gate.weight"));
        Self { weights, init, device, given }
    }

    /// The router `name` of `shape` `[K, inputs]`, added to `params`; None if its block is not routed.
    pub(super) fn make(
        &self,
        params: &mut Params,
        name: String,
        shape: [usize; 2],
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<Tensor>, TrainError> {
        if self.given && !self.weights.contains_key(&name) {
            return Ok(None);
        }
        if self.given {
            return params.load(self.weights, name, &shape, Group::Router, self.device).map(Some);
        }
        let count = shape[0] * shape[1];
        let data = match self.init {
            GateInit::Timm => (0..count).map(|_| (normal(rng) * TIMM_STD) as f32).collect(),
            GateInit::Torch => {
                let bound = 1.0 / (shape[1] as f32).sqrt();
                (0..count).map(|_| rng.random_range(-bound..bound)).collect()
            }
        };
        let weight = from_host(&HostTensor { shape: shape.to_vec(), data }, self.device);
        Ok(Some(params.insert(name, weight, Group::Router)))
    }
}
