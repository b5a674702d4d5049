//! ResNet out of its weights.

use dfml_models::ResNet;
use dfml_models::arch::Bottleneck;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Layers;
use super::block::{Activation, Block, Shortcut};
use super::conv_bn::{ConvBnSpec, Loader, Padding, Style};
use crate::error::TrainError;
use crate::nn::NetworkOptions;
use crate::nn::gates::{GateInit, Gates};
use crate::nn::params::Group;

const STYLE: Style = Style { padding: Padding::Half, eps: ResNet::BATCH_NORM_EPS as f64, momentum: 0.1 };

pub(super) fn load(
    net: &ResNet,
    loader: &mut Loader<'_>,
    options: &NetworkOptions,
) -> Result<Layers, TrainError> {
    let frozen = |blocks: usize| if blocks < options.frozen_blocks { Group::Buffer } else { Group::Backbone };
    let stem = ConvBnSpec {
        conv: "conv1".into(),
        bn: "bn1".into(),
        shape: [net.width, 3, 7, 7],
        stride: 2,
        depthwise: false,
    };
    let stem = loader.conv(&stem, STYLE, frozen(0))?;
    let gates = Gates::new(loader.weights, GateInit::Torch, loader.device);
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut blocks = Vec::new();
    for (index, spec) in net.bottlenecks().iter().enumerate() {
        let mut block = load_block(spec, loader, frozen(index))?;
        if net.sub_blocks > 1 && index >= options.frozen_blocks {
            let name = format!("{}.gate.weight", spec.prefix);
            block.gate = gates.make(loader.params, name, [net.sub_blocks, spec.in_channels], &mut rng)?;
            block.sub_blocks = net.sub_blocks as i64;
        }
        blocks.push(block);
    }
    Ok(Layers { stem, stem_maximum: true, activation: Activation::Relu, blocks, head: None })
}

fn load_block(spec: &Bottleneck, loader: &mut Loader<'_>, group: Group) -> Result<Block, TrainError> {
    let mut conv = |conv: &str, bn: &str, shape, stride| {
        let (conv, bn) = (format!("{}.{conv}", spec.prefix), format!("{}.{bn}", spec.prefix));
        loader.conv(&ConvBnSpec { conv, bn, shape, stride, depthwise: false }, STYLE, group)
    };
    let (inputs, width, outputs) = (spec.in_channels, spec.width, spec.out_channels);
    let reduce = conv("conv1", "bn1", [width, inputs, 1, 1], 1)?;
    let inner = vec![conv("conv2", "bn2", [width, width, 3, 3], spec.stride)?];
    let project = conv("conv3", "bn3", [outputs, width, 1, 1], 1)?;
    let shortcut = if spec.downsample {
        let branch = conv("downsample.0", "downsample.1", [outputs, inputs, 1, 1], spec.stride)?;
        Shortcut::Conv(Box::new(branch))
    } else {
        Shortcut::Input
    };
    Ok(Block {
        reduce: Some(reduce),
        inner,
        project,
        shortcut,
        activation: Activation::Relu,
        activate_sum: true,
        width: width as i64,
        sub_blocks: 1,
        gate: None,
    })
}
