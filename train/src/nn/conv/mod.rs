//! Convolutional networks (EfficientNet-Lite, ResNet) with their blocks cut into sub-blocks, a router per block and image.

mod block;
mod conv_bn;
mod efficientnet;
mod resnet;
mod routed;
#[cfg(test)]
mod tests;

use dfml_models::{Architecture, EfficientNetLite, Inventory, ResNet, TensorMap, to_dense};
use tch::{Device, Tensor};

use self::block::{Activation, Block};
use self::conv_bn::{ConvBn, Fused, Loader, Statistics};
use self::routed::pool;
use super::{Effort, EmbeddingLayer, Form, Network, NetworkOptions, Params, StreamOutput, TrainOutput};
use crate::error::TrainError;

/// A convolutional network on libtorch, dense in memory: its parameters bear the dense names.
#[derive(Debug)]
pub(super) struct ConvNetwork {
    architecture: Architecture,
    params: Params,
    layers: Layers,
    embedding: Option<EmbeddingLayer>,
    options: NetworkOptions,
}

/// Everything before the pooled features.
#[derive(Debug)]
struct Layers {
    stem: ConvBn,
    /// Whether a 3x3 maximum of stride 2 follows the stem.
    stem_maximum: bool,
    activation: Activation,
    blocks: Vec<Block>,
    /// A last 1x1 convolution, where there is one.
    head: Option<ConvBn>,
}

impl ConvNetwork {
    /// Builds an EfficientNet-Lite from `weights` of either form; see [`super::build()`].
    pub(super) fn efficientnet_lite(
        net: &EfficientNetLite,
        weights: &TensorMap,
        options: NetworkOptions,
        device: Device,
    ) -> Result<Self, TrainError> {
        let architecture = Architecture::EfficientnetLite(net.clone());
        Self::new(architecture, weights, options, device, |loader, options| {
            efficientnet::load(net, loader, options)
        })
    }

    /// Builds a ResNet from `weights` of either form; see [`super::build()`].
    pub(super) fn resnet(
        net: &ResNet,
        weights: &TensorMap,
        options: NetworkOptions,
        device: Device,
    ) -> Result<Self, TrainError> {
        Self::new(Architecture::Resnet(net.clone()), weights, options, device, |loader, options| {
            resnet::load(net, loader, options)
        })
    }

    fn new(
        architecture: Architecture,
        weights: &TensorMap,
        options: NetworkOptions,
        device: Device,
        load: impl FnOnce(&mut Loader<'_>, &NetworkOptions) -> Result<Layers, TrainError>,
    ) -> Result<Self, TrainError> {
        let mut dense = to_dense(&architecture, weights)?;
        for gate in Inventory::of(&architecture, weights).gates {
            dense.insert(gate.clone(), weights[&gate].clone());
        }
        let mut params = Params::new();
        let layers = load(&mut Loader { params: &mut params, weights: &dense, device }, &options)?;
        let embedding = EmbeddingLayer::load(&mut params, &dense, &architecture, device)?;
        Ok(Self { architecture, params, layers, embedding, options })
    }

    /// Which statistics normalisations use in training.
    fn train_statistics(&self) -> Statistics {
        if self.options.bn_freeze { Statistics::Running } else { Statistics::Batch }
    }

    /// The stem and the blocks that both streams share because nothing in them is trained; the latter's number.
    fn prefix(&self, pixels: &Tensor, statistics: Statistics) -> (Tensor, usize) {
        let shared = self.options.frozen_blocks.min(self.layers.blocks.len());
        let run = || {
            let mut x = self.layers.stem(pixels, statistics);
            for block in &self.layers.blocks[..shared] {
                x = block.full(&x, statistics).0;
            }
            x
        };
        (if shared > 0 { tch::no_grad(run) } else { run() }, shared)
    }

    fn output(&self, features: Tensor) -> StreamOutput {
        StreamOutput::new(features, self.embedding.as_ref())
    }
}

impl Layers {
    fn stem(&self, pixels: &Tensor, statistics: Statistics) -> Tensor {
        let x = self.activation.apply(self.stem.forward(pixels, statistics).0);
        if self.stem_maximum { x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false) } else { x }
    }

    /// Pooled features of a stream, and the head for another stream of the same pass.
    fn pooled(&self, image: &Tensor, statistics: Statistics) -> (Tensor, Option<Fused>) {
        match &self.head {
            Some(head) => {
                let (out, fused) = head.forward(image, statistics);
                (pool(&self.activation.apply(out)), Some(fused))
            }
            None => (pool(image), None),
        }
    }

    /// Pooled features of the routed stream, through the head of the full one.
    fn pooled_with(&self, image: &Tensor, fused: Option<&Fused>) -> Tensor {
        match (&self.head, fused) {
            (Some(head), Some(fused)) => pool(&self.activation.apply(head.apply(image, fused))),
            _ => pool(image),
        }
    }
}

impl Network for ConvNetwork {
    fn forward_train(&self, pixels: &Tensor) -> TrainOutput {
        let statistics = self.train_statistics();
        let (start, shared) = self.prefix(pixels, statistics);
        let (mut full, mut routed) = (start.shallow_clone(), start);
        let mut gaps = Vec::new();
        let mut routes = Vec::new();
        for block in &self.layers.blocks[shared..] {
            let (next, fused) = block.full(&full, statistics);
            match &block.gate {
                Some(gate) => {
                    let target = (self.options.gap_weight != 0.0).then(|| next.detach());
                    let out = match self.options.form {
                        Form::Fast => routed::fast(block, &routed, target.as_ref(), &fused, gate),
                        Form::Masked => routed::masked(block, &routed, target.as_ref(), &fused, gate),
                    };
                    routed = out.output;
                    gaps.push(out.gap);
                    routes.push(out.choice);
                }
                // Not routed: the streams have not parted before the first router, but have after it.
                None if routes.is_empty() => routed = next.shallow_clone(),
                None => routed = block.same(&routed, &fused),
            }
            full = next;
        }
        let gap = if gaps.is_empty() {
            Tensor::zeros([0i64; 0], (pixels.kind(), pixels.device()))
        } else {
            Tensor::stack(&gaps, 0).sum(None) * self.options.gap_weight
        };
        let (full, head) = self.layers.pooled(&full, statistics);
        let routed = self.layers.pooled_with(&routed, head.as_ref());
        TrainOutput { full: self.output(full), routed: self.output(routed), gap, routes }
    }

    fn forward_plain(&self, pixels: &Tensor) -> StreamOutput {
        let statistics = self.train_statistics();
        let (mut x, shared) = self.prefix(pixels, statistics);
        for block in &self.layers.blocks[shared..] {
            x = block.full(&x, statistics).0;
        }
        self.output(self.layers.pooled(&x, statistics).0)
    }

    fn features(&self, pixels: &Tensor, effort: Effort) -> Tensor {
        let mut x = self.layers.stem(pixels, Statistics::Running);
        for block in &self.layers.blocks {
            x = block.evaluate(&x, effort);
        }
        self.layers.pooled(&x, Statistics::Running).0
    }

    fn embedding_layer(&self) -> Option<&EmbeddingLayer> {
        self.embedding.as_ref()
    }

    fn params(&self) -> &Params {
        &self.params
    }

    fn architecture(&self) -> Architecture {
        self.architecture.clone()
    }
}
