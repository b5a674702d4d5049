//! Start values for every tensor, for training without a pretrained file.

use dfml_models::{Architecture, Tensor, TensorMap, TensorSpec};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// timm's standard deviation for every weight of a transformer.
const TIMM_STD: f64 = 0.02;

/// Dense weights of `architecture`, drawn from `seed`: normal with variance 2 / inputs for convolutions (He et al.
/// 2015), with standard deviation 0.02 for transformers, 1 / inputs for the embedding layer; normalisations start as the
/// identity, biases at 0.
pub fn fresh_weights(architecture: &Architecture, seed: u64) -> TensorMap {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    architecture.dense_tensors().into_iter().map(|spec| draw(spec, &mut rng)).collect()
}

fn draw(spec: TensorSpec, rng: &mut ChaCha8Rng) -> (String, Tensor) {
    let TensorSpec { name, shape } = spec;
    let inputs = shape.iter().skip(1).product::<usize>().max(1) as f64;
    let std = match shape.len() {
        _ if name.starts_with("embedding.weight") => inputs.recip().sqrt(),
        4 if !name.starts_with("patch_embed") => (2.0 / inputs).sqrt(),
        2..=4 => TIMM_STD,
        _ => 0.0,
    };
    let tensor = if std > 0.0 {
        let count = shape.iter().product();
        Tensor::new(shape, (0..count).map(|_| (normal(rng) * std) as f32).collect())
    } else {
        let is_scale = name.ends_with(".weight") || name.ends_with(".running_var");
        Tensor::full(shape, f32::from(u8::from(is_scale)))
    };
    (name, tensor)
}

/// A standard normal draw (Box and Muller).
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // 1 - u lies in (0, 1], so that the logarithm is finite.
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
