//! EfficientNet-Lite as ONNX.

use super::conv_net::{ConvWriter, Padding};
use super::graph::Value;
use super::proto::GraphProto;
use crate::arch::{EfficientNetLite, MbConv};
use crate::weights::TensorMap;

/// The graph for images of the given size; the weights are dense and complete.
pub(super) fn graph(net: &EfficientNetLite, weights: &TensorMap, height: usize, width: usize) -> GraphProto {
    let eps = EfficientNetLite::BATCH_NORM_EPS;
    let (mut writer, pixels) =
        ConvWriter::new("efficientnet_lite", weights, Padding::Same, eps, (height, width));
    let limits = Limits {
        zero: writer.graph.floats("relu6.min", &[], &[0.0]),
        six: writer.graph.floats("relu6.max", &[], &[6.0]),
    };
    let stem = writer.conv("_conv_stem", "_bn0", &pixels, 2, 1);
    let mut x = limits.relu6(&mut writer, "stem", &stem);
    for block in net.blocks() {
        x = inverted_bottleneck(&mut writer, &limits, &block, &x);
    }
    let head = writer.conv("_conv_head", "_bn1", &x, 1, 1);
    let head = limits.relu6(&mut writer, "head", &head);
    writer.finish(&head, net.embedding_dim.is_some(), net.output_dim())
}

/// The constants of every ReLU6.
struct Limits {
    zero: Value,
    six: Value,
}

impl Limits {
    fn relu6(&self, writer: &mut ConvWriter<'_>, name: &str, input: &Value) -> Value {
        writer.graph.node("Clip", format!("{name}.relu6"), &[input, &self.zero, &self.six], Vec::new())
    }
}

fn inverted_bottleneck(writer: &mut ConvWriter<'_>, limits: &Limits, block: &MbConv, input: &Value) -> Value {
    let p = block.prefix();
    let mut x = input.clone();
    if block.expand {
        x = writer.conv(&format!("{p}._expand_conv"), &format!("{p}._bn0"), &x, 1, 1);
        x = limits.relu6(writer, &format!("{p}.expanded"), &x);
    }
    let (stride, groups) = (block.stride, block.expanded_channels);
    x = writer.conv(&format!("{p}._depthwise_conv"), &format!("{p}._bn1"), &x, stride, groups);
    x = limits.relu6(writer, &format!("{p}.depthwise"), &x);
    x = writer.conv(&format!("{p}._project_conv"), &format!("{p}._bn2"), &x, 1, 1);
    if block.residual {
        x = writer.graph.node("Add", format!("{p}.sum"), &[&x, input], Vec::new());
    }
    x
}
