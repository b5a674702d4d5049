//! The parameters of one transformer block, cut into sub-blocks.

use dfml_models::{TensorMap, Vit};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use crate::error::TrainError;
use crate::nn::gates::Gates as GateSource;
use crate::nn::params::{Group, Params};

/// Added to the variance in every layer normalisation.
const LAYER_NORM_EPS: f64 = dfml_models::arch::LAYER_NORM_EPS as f64;

/// A layer normalisation over the last dimension: weight and bias `[dim]`.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Norm {
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let dim = self.weight.size();
        x.layer_norm(dim, Some(&self.weight), Some(&self.bias), LAYER_NORM_EPS, true)
    }

    /// `x` brought to mean 0 and variance 1, before weight and bias.
    pub(super) fn standardize(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), None::<&Tensor>, None::<&Tensor>, LAYER_NORM_EPS, true)
    }
}

/// A linear layer: weight `[out, in]`, bias `[out]`.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Linear {
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Sub-block k of an attention: its heads' queries, keys and values (`[3 * dim / K, dim]`), and their projection
/// (`[dim, dim / K]`), whose bias is this sub-block's share.
#[derive(Debug)]
pub(super) struct SubAttention {
    pub(super) qkv: Linear,
    pub(super) proj: Linear,
}

/// Sub-block k of an MLP: `hidden / K` of its hidden units.
#[derive(Debug)]
pub(super) struct SubMlp {
    pub(super) fc1: Linear,
    pub(super) fc2: Linear,
}

impl SubMlp {
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.fc2.forward(&self.fc1.forward(x).gelu("none"))
    }
}

/// Router weights of a block, `[K, dim]` each.
#[derive(Debug)]
pub(super) struct Gates {
    /// Before the attention, on its normalised input.
    pub(super) attention: Tensor,
    /// Before the MLP, on its input as it is.
    pub(super) mlp: Tensor,
}

/// One block's parameters under the official names; handles that share storage with the network's [`Params`].
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) norm1: Norm,
    pub(super) attention: Vec<SubAttention>,
    pub(super) norm2: Norm,
    pub(super) mlp: Vec<SubMlp>,
    /// None where the block is not cut, or not routed.
    pub(super) gates: Option<Gates>,
    /// All heads of the block.
    pub(super) heads: i64,
}

impl Layer {
    /// Takes block `index` out of factorised weights. A block that is trained (not of [`Group::Buffer`]) gets its routers
    /// from `gates`, which draws from `seed` what it has to draw.
    pub(super) fn load(
        loader: &mut Loader<'_>,
        arch: &Vit,
        index: usize,
        gates: &GateSource<'_>,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let prefix = format!("blocks.{index}");
        let (dim, hidden, k) = (arch.dim, arch.mlp_hidden, arch.sub_blocks);
        let mut attention = Vec::with_capacity(k);
        let mut mlp = Vec::with_capacity(k);
        for sub in 0..k {
            // The dense network has no number in its names.
            let n = if k == 1 { String::new() } else { (sub + 1).to_string() };
            attention.push(SubAttention {
                qkv: loader.linear(&format!("{prefix}.attn.qkv{n}"), 3 * dim / k, dim)?,
                proj: loader.linear(&format!("{prefix}.attn.proj{n}"), dim, dim / k)?,
            });
            mlp.push(SubMlp {
                fc1: loader.linear(&format!("{prefix}.mlp{n}.fc1"), hidden / k, dim)?,
                fc2: loader.linear(&format!("{prefix}.mlp{n}.fc2"), dim, hidden / k)?,
            });
        }
        let norm1 = loader.norm(&format!("{prefix}.norm1"), dim)?;
        let norm2 = loader.norm(&format!("{prefix}.norm2"), dim)?;
        let gates = if k == 1 || loader.group == Group::Buffer {
            None
        } else {
            let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(index as u64));
            let mut gate = |name: String| gates.make(loader.params, name, [k, dim], &mut rng);
            let attention = gate(format!("{prefix}.attn.gate.weight"))?;
            let mlp = gate(format!("{prefix}.gate.weight"))?;
            attention.zip(mlp).map(|(attention, mlp)| Gates { attention, mlp })
        };
        Ok(Self { norm1, attention, norm2, mlp, gates, heads: arch.heads as i64 })
    }
}

/// Takes layers out of a weight map into the network's parameters.
pub(super) struct Loader<'a> {
    pub(super) params: &'a mut Params,
    pub(super) weights: &'a TensorMap,
    pub(super) device: Device,
    /// The optimiser group of what is loaded next.
    pub(super) group: Group,
}

impl Loader<'_> {
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, TrainError> {
        self.params.load(self.weights, name.to_owned(), shape, self.group, self.device)
    }

    pub(super) fn norm(&mut self, name: &str, dim: usize) -> Result<Norm, TrainError> {
        let weight = self.tensor(&format!("{name}.weight"), &[dim])?;
        Ok(Norm { weight, bias: self.tensor(&format!("{name}.bias"), &[dim])? })
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, TrainError> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Linear { weight, bias: self.tensor(&format!("{name}.bias"), &[outputs])? })
    }
}
