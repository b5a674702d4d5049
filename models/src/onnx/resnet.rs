//! ResNet as ONNX.

use super::conv_net::{ConvWriter, Padding};
use super::graph::Value;
use super::proto::{GraphProto, ints_attribute};
use crate::arch::{Bottleneck, ResNet};
use crate::weights::TensorMap;

/// The graph for images of the given size; the weights are dense and complete.
pub(super) fn graph(net: &ResNet, weights: &TensorMap, height: usize, width: usize) -> GraphProto {
    let eps = ResNet::BATCH_NORM_EPS;
    let (mut writer, pixels) = ConvWriter::new("resnet", weights, Padding::Half, eps, (height, width));
    let stem = writer.conv("conv1", "bn1", &pixels, 2, 1);
    let stem = relu(&mut writer, "stem", &stem);
    let attributes = vec![
        ints_attribute("kernel_shape", &[3, 3]),
        ints_attribute("strides", &[2, 2]),
        ints_attribute("pads", &[1; 4]),
    ];
    let mut x = writer.graph.node("MaxPool", "stem.pooled", &[&stem], attributes);
    writer.shrink(2);
    for block in net.bottlenecks() {
        x = bottleneck(&mut writer, &block, &x);
    }
    writer.finish(&x, net.embedding_dim.is_some(), net.output_dim())
}

fn relu(writer: &mut ConvWriter<'_>, name: &str, input: &Value) -> Value {
    writer.graph.node("Relu", format!("{name}.relu"), &[input], Vec::new())
}

fn bottleneck(writer: &mut ConvWriter<'_>, block: &Bottleneck, input: &Value) -> Value {
    let p = &block.prefix;
    let size = writer.size();
    let mut x = input.clone();
    for (n, stride) in [(1, 1), (2, block.stride)] {
        x = writer.conv(&format!("{p}.conv{n}"), &format!("{p}.bn{n}"), &x, stride, 1);
        x = relu(writer, &format!("{p}.conv{n}"), &x);
    }
    x = writer.conv(&format!("{p}.conv3"), &format!("{p}.bn3"), &x, 1, 1);
    let shortcut = if block.downsample {
        writer.set_size(size);
        writer.conv(&format!("{p}.downsample.0"), &format!("{p}.downsample.1"), input, block.stride, 1)
    } else {
        input.clone()
    };
    x = writer.graph.node("Add", format!("{p}.sum"), &[&x, &shortcut], Vec::new());
    relu(writer, p, &x)
}
