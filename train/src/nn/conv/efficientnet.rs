//! EfficientNet-Lite out of its weights.

use dfml_models::{EfficientNetLite, MbConv};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Layers;
use super::block::{Activation, Block, Shortcut};
use super::conv_bn::{ConvBnSpec, Loader, Padding, Style};
use crate::error::TrainError;
use crate::nn::NetworkOptions;
use crate::nn::gates::{GateInit, Gates};
use crate::nn::params::Group;

/// TensorFlow's momentum of 0.99, in torch's terms.
const STYLE: Style =
    Style { padding: Padding::Same, eps: EfficientNetLite::BATCH_NORM_EPS as f64, momentum: 0.01 };

pub(super) fn load(
    net: &EfficientNetLite,
    loader: &mut Loader<'_>,
    options: &NetworkOptions,
) -> Result<Layers, TrainError> {
    let frozen = |blocks: usize| if blocks < options.frozen_blocks { Group::Buffer } else { Group::Backbone };
    let stem = ConvBnSpec {
        conv: "_conv_stem".into(),
        bn: "_bn0".into(),
        shape: [net.stem_channels(), 3, 3, 3],
        stride: 2,
        depthwise: false,
    };
    let stem = loader.conv(&stem, STYLE, frozen(0))?;
    let gates = Gates::new(loader.weights, GateInit::Torch, loader.device);
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut blocks = Vec::new();
    for spec in net.blocks() {
        let mut block = load_block(&spec, loader, frozen(spec.index))?;
        if spec.is_factorized(net.sub_blocks) && spec.index >= options.frozen_blocks {
            let name = format!("{}.gate.weight", spec.prefix());
            block.gate = gates.make(loader.params, name, [net.sub_blocks, spec.in_channels], &mut rng)?;
            block.sub_blocks = net.sub_blocks as i64;
        }
        blocks.push(block);
    }
    let inputs = net.blocks().last().map_or(net.stem_channels(), |block| block.out_channels);
    let head = ConvBnSpec {
        conv: "_conv_head".into(),
        bn: "_bn1".into(),
        shape: [net.head_channels(), inputs, 1, 1],
        stride: 1,
        depthwise: false,
    };
    let head = Some(loader.conv(&head, STYLE, Group::Backbone)?);
    Ok(Layers { stem, stem_maximum: false, activation: Activation::Relu6, blocks, head })
}

fn load_block(spec: &MbConv, loader: &mut Loader<'_>, group: Group) -> Result<Block, TrainError> {
    let prefix = spec.prefix();
    let mut conv = |conv: &str, bn: &str, shape, stride, depthwise| {
        let (conv, bn) = (format!("{prefix}.{conv}"), format!("{prefix}.{bn}"));
        loader.conv(&ConvBnSpec { conv, bn, shape, stride, depthwise }, STYLE, group)
    };
    let (inputs, wide, outputs) = (spec.in_channels, spec.expanded_channels, spec.out_channels);
    let mut inner = Vec::new();
    if spec.expand {
        inner.push(conv("_expand_conv", "_bn0", [wide, inputs, 1, 1], 1, false)?);
    }
    inner.push(conv("_depthwise_conv", "_bn1", [wide, 1, spec.kernel, spec.kernel], spec.stride, true)?);
    Ok(Block {
        reduce: None,
        inner,
        project: conv("_project_conv", "_bn2", [outputs, wide, 1, 1], 1, false)?,
        shortcut: if spec.residual { Shortcut::Input } else { Shortcut::None },
        activation: Activation::Relu6,
        activate_sum: false,
        width: wide as i64,
        sub_blocks: 1,
        gate: None,
    })
}
