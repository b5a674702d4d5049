//! Start values of what a pretrained file does not hold: the routers.

use dfml_models::{Tensor as HostTensor, TensorMap};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use crate::error::TrainError;
use crate::nn::params::from_host;

/// Standard deviation of fresh router weights: timm's for every linear layer, as in the official code.
const STD: f64 = 0.02;

/// The router `name` of `shape` `[K, dim]`: from the weights, else normally distributed.
///
/// # Errors
/// [`TrainError::Shape`] if the weights hold it in another shape.
pub(super) fn gate_weight(
    weights: &TensorMap,
    name: &str,
    shape: &[usize],
    rng: &mut ChaCha8Rng,
    device: Device,
) -> Result<Tensor, TrainError> {
    match weights.get(name) {
        Some(host) if host.shape == shape => Ok(from_host(host, device)),
        Some(host) => Err(TrainError::Shape {
            name: name.to_owned(),
            expected: shape.to_vec(),
            found: host.shape.clone(),
        }),
        None => {
            let data = (0..shape.iter().product()).map(|_| (normal(rng) * STD) as f32).collect();
            Ok(from_host(&HostTensor { shape: shape.to_vec(), data }, device))
        }
    }
}

/// A standard normal draw (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // 1 - u lies in (0, 1], so that the logarithm is finite.
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
