//! EfficientNet-Lite with its inverted bottlenecks cut into sub-blocks, a router per block and image.

mod block;
mod conv;
#[cfg(test)]
mod tests;

use dfml_models::{Architecture, EfficientNetLite, TensorMap};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use self::block::{Block, FusedBlock};
use self::conv::{ConvBn, ConvBnSpec};
use super::params::{Group, Params, from_host};
use super::{Network, TrainOutput, l2_normalize};
use crate::error::TrainError;

/// How an [`EfficientNet`] is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct EfficientNetOptions {
    /// The stem and this many blocks keep their pretrained weights. Frozen blocks have no router: both streams share
    /// them, and they cost no backward pass.
    pub frozen_blocks: usize,
    /// Weight of the summed block gaps.
    pub gap_weight: f64,
    /// Seed of the routers' initial weights.
    pub seed: u64,
}

/// EfficientNet-Lite (Lite0-2) on libtorch; batch normalisations run on their pretrained statistics.
#[derive(Debug)]
pub struct EfficientNet {
    arch: EfficientNetLite,
    params: Params,
    stem: ConvBn,
    blocks: Vec<Block>,
    head: ConvBn,
    /// Linear layer on pooled features: weight `[dim, features]`, bias `[dim]`.
    embedding: Option<(Tensor, Tensor)>,
    options: EfficientNetOptions,
}

impl EfficientNet {
    /// Builds the network from dense `weights` (timm-style `_blocks.{i}…` names, as `dfml_models::fold` yields), with
    /// routers from `_blocks.{i}.gate.weight` where present and freshly drawn where not.
    ///
    /// # Errors
    /// A missing tensor or a wrong shape, by name.
    pub fn new(
        arch: EfficientNetLite,
        weights: &TensorMap,
        options: EfficientNetOptions,
        device: Device,
    ) -> Result<Self, TrainError> {
        let mut params = Params::new();
        let group_of = |index: usize| {
            if index < options.frozen_blocks { Group::Buffer } else { Group::Backbone }
        };
        let frozen_stem = if options.frozen_blocks > 0 { Group::Buffer } else { Group::Backbone };
        let stem_spec = ConvBnSpec {
            conv: "_conv_stem".into(),
            bn: "_bn0".into(),
            shape: [arch.stem_channels(), 3, 3, 3],
            stride: 2,
            depthwise: false,
        };
        let stem = ConvBn::load(&mut params, weights, &stem_spec, frozen_stem, device)?;

        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let mut blocks = Vec::new();
        for spec in arch.blocks() {
            let (index, inputs) = (spec.index, spec.in_channels);
            let factorised = spec.is_factorized(arch.sub_blocks);
            let mut block = Block::load(&mut params, weights, spec, group_of(index), device)?;
            if factorised && index >= options.frozen_blocks {
                let gate = gate_weight(weights, index, arch.sub_blocks, inputs, &mut rng, device)?;
                let name = format!("_blocks.{index}.gate.weight");
                block.set_router(params.insert(name, gate, Group::Router));
            }
            blocks.push(block);
        }
        let inputs = arch.blocks().last().map_or(0, |block| block.out_channels);
        let head_spec = ConvBnSpec {
            conv: "_conv_head".into(),
            bn: "_bn1".into(),
            shape: [arch.head_channels(), inputs, 1, 1],
            stride: 1,
            depthwise: false,
        };
        let head = ConvBn::load(&mut params, weights, &head_spec, Group::Backbone, device)?;
        let embedding = match arch.embedding_dim {
            Some(dim) => {
                let shape = [dim, arch.head_channels()];
                let weight =
                    params.load(weights, "embedding.weight".into(), &shape, Group::Embedding, device)?;
                let bias = params.load(weights, "embedding.bias".into(), &[dim], Group::Embedding, device)?;
                Some((weight, bias))
            }
            None => None,
        };
        Ok(Self { arch, params, stem, blocks, head, embedding, options })
    }

    /// Pooled features of the full stream before the embedding layer, `[batch, features]`, not normalised.
    pub fn features(&self, pixels: &Tensor) -> Tensor {
        let mut x = self.stem.forward(pixels, &self.stem.fuse()).relu6_();
        for block in &self.blocks {
            x = block.forward_full(&x, &block.fuse());
        }
        self.pool(&x)
    }

    fn pool(&self, x: &Tensor) -> Tensor {
        let head = self.head.forward(x, &self.head.fuse()).relu6_();
        head.mean_dim([2i64, 3].as_slice(), false, head.kind())
    }

    fn embed_features(&self, features: &Tensor) -> Tensor {
        match &self.embedding {
            Some((weight, bias)) => l2_normalize(&features.linear(weight, Some(bias))),
            None => l2_normalize(features),
        }
    }

    /// The part both streams share because nothing in it is trained.
    fn frozen_prefix(&self, pixels: &Tensor) -> Tensor {
        let run = || {
            let mut x = self.stem.forward(pixels, &self.stem.fuse()).relu6_();
            for block in &self.blocks[..self.shared_blocks()] {
                x = block.forward_full(&x, &block.fuse());
            }
            x
        };
        if self.options.frozen_blocks > 0 { tch::no_grad(run) } else { run() }
    }

    fn shared_blocks(&self) -> usize {
        self.options.frozen_blocks.min(self.blocks.len())
    }
}

impl Network for EfficientNet {
    fn embed(&self, pixels: &Tensor) -> Tensor {
        self.embed_features(&self.features(pixels))
    }

    fn forward_train(&self, pixels: &Tensor) -> TrainOutput {
        let start = self.frozen_prefix(pixels);
        let mut full = start.shallow_clone();
        let mut routed = start;
        let mut gap = Tensor::zeros([1], (Kind::Float, pixels.device()));
        let mut routes = Vec::new();
        for block in &self.blocks[self.shared_blocks()..] {
            let fused: FusedBlock = block.fuse();
            let next = block.forward_full(&full, &fused);
            match &block.gate {
                Some(gate) => {
                    let out = block.forward_routed(&routed, &next, &fused, gate);
                    routed = out.output;
                    gap += out.gap;
                    routes.push(out.choice);
                }
                // Not cut: the streams have not parted before the first cut block, but may have after one.
                None if routes.is_empty() => routed = next.shallow_clone(),
                None => routed = block.forward_full(&routed, &fused),
            }
            full = next;
        }
        TrainOutput {
            full: self.embed_features(&self.pool(&full)),
            routed: self.embed_features(&self.pool(&routed)),
            gap: (gap * self.options.gap_weight).squeeze(),
            routes,
        }
    }

    fn params(&self) -> &Params {
        &self.params
    }

    fn architecture(&self) -> Architecture {
        Architecture::EfficientnetLite(self.arch.clone())
    }
}

/// The router of block `index`, `[K, inputs]`: from the weights, else uniform in ±1/sqrt(inputs) (torch's default for
/// a linear layer).
fn gate_weight(
    weights: &TensorMap,
    index: usize,
    sub_blocks: usize,
    inputs: usize,
    rng: &mut ChaCha8Rng,
    device: Device,
) -> Result<Tensor, TrainError> {
    let name = format!("_blocks.{index}.gate.weight");
    let shape = vec![sub_blocks, inputs];
    match weights.get(&name) {
        Some(host) if host.shape == shape => Ok(from_host(host, device)),
        Some(host) => Err(TrainError::Shape { name, expected: shape, found: host.shape.clone() }),
        None => {
            let bound = 1.0 / (inputs as f32).sqrt();
            let data = (0..sub_blocks * inputs).map(|_| rng.random_range(-bound..bound)).collect();
            Ok(from_host(&dfml_models::Tensor { shape, data }, device))
        }
    }
}
