//! EfficientNet-Lite as ONNX, each batch normalisation folded into the convolution before it.

use super::graph::{Conv, GraphBuilder, Pads, Value};
use super::proto::GraphProto;
use crate::arch::{BATCH_NORM_EPS, EfficientNetLite, MbConv, SamePadding};
use crate::weights::{Tensor, TensorMap};

/// The graph for images of the given size; the weights are dense and complete.
pub(super) fn graph(net: &EfficientNetLite, weights: &TensorMap, height: usize, width: usize) -> GraphProto {
    let (graph, pixels) = GraphBuilder::new("efficientnet_lite", height, width);
    let mut writer = Writer::new(graph, weights, height, width);
    let stem = writer.conv("_conv_stem", "_bn0", &pixels, 2, 1);
    let mut x = writer.relu6("stem", &stem);
    for block in net.blocks() {
        x = writer.block(&block, &x);
    }
    let head = writer.conv("_conv_head", "_bn1", &x, 1, 1);
    let head = writer.relu6("head", &head);
    let pooled = writer.graph.node("GlobalAveragePool", "pooled", &[&head], Vec::new());
    let features = writer.graph.node("Flatten", "features", &[&pooled], Vec::new());
    let rows = match net.embedding_dim {
        Some(_) => {
            let (weight, bias) = (&weights["embedding.weight"], &weights["embedding.bias"]);
            // Not "embedding": that is the name of the output.
            writer.graph.linear("projected", &features, &weight.shape, &weight.data, &bias.data)
        }
        None => features,
    };
    writer.graph.finish(&rows, net.output_dim())
}

struct Writer<'a> {
    graph: GraphBuilder,
    weights: &'a TensorMap,
    zero: Value,
    six: Value,
    /// Size of the image at this point of the network; padding depends on it.
    height: usize,
    width: usize,
}

impl<'a> Writer<'a> {
    fn new(mut graph: GraphBuilder, weights: &'a TensorMap, height: usize, width: usize) -> Writer<'a> {
        let zero = graph.floats("relu6.min", &[], &[0.0]);
        let six = graph.floats("relu6.max", &[], &[6.0]);
        Writer { graph, weights, zero, six, height, width }
    }

    fn relu6(&mut self, name: &str, input: &Value) -> Value {
        let inputs = [input, &self.zero, &self.six];
        self.graph.node("Clip", format!("{name}.relu6"), &inputs, Vec::new())
    }

    /// A convolution and the batch normalisation after it, with TensorFlow's SAME padding.
    fn conv(&mut self, name: &str, norm: &str, input: &Value, stride: usize, groups: usize) -> Value {
        let weight = &self.weights[&format!("{name}.weight")];
        let (folded, bias) = fold_batch_norm(weight, &BatchNorm::of(self.weights, norm));
        let (vertical, horizontal) = (
            SamePadding::of(self.height, weight.shape[2], stride),
            SamePadding::of(self.width, weight.shape[3], stride),
        );
        let pads = Pads {
            top: vertical.before,
            left: horizontal.before,
            bottom: vertical.after,
            right: horizontal.after,
        };
        self.height = self.height.div_ceil(stride);
        self.width = self.width.div_ceil(stride);
        let conv = Conv { shape: &weight.shape, weight: &folded, bias: &bias, stride, pads, groups };
        self.graph.conv(name, input, &conv)
    }

    fn block(&mut self, block: &MbConv, input: &Value) -> Value {
        let p = block.prefix();
        let mut x = input.clone();
        if block.expand {
            x = self.conv(&format!("{p}._expand_conv"), &format!("{p}._bn0"), &x, 1, 1);
            x = self.relu6(&format!("{p}.expanded"), &x);
        }
        let (stride, groups) = (block.stride, block.expanded_channels);
        x = self.conv(&format!("{p}._depthwise_conv"), &format!("{p}._bn1"), &x, stride, groups);
        x = self.relu6(&format!("{p}.depthwise"), &x);
        x = self.conv(&format!("{p}._project_conv"), &format!("{p}._bn2"), &x, 1, 1);
        if block.residual {
            x = self.graph.node("Add", format!("{p}.sum"), &[&x, input], Vec::new());
        }
        x
    }
}

/// A batch normalisation as it acts in evaluation.
struct BatchNorm<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    mean: &'a [f32],
    var: &'a [f32],
}

impl<'a> BatchNorm<'a> {
    fn of(weights: &'a TensorMap, prefix: &str) -> BatchNorm<'a> {
        let part = |name: &str| weights[&format!("{prefix}.{name}")].data.as_slice();
        BatchNorm {
            weight: part("weight"),
            bias: part("bias"),
            mean: part("running_mean"),
            var: part("running_var"),
        }
    }
}

/// Weight and bias of the one convolution that equals a convolution and its normalisation; in double precision.
fn fold_batch_norm(weight: &Tensor, norm: &BatchNorm<'_>) -> (Vec<f32>, Vec<f32>) {
    let per_channel = weight.numel() / weight.shape[0];
    let (mut folded, mut bias) = (Vec::with_capacity(weight.numel()), Vec::with_capacity(weight.shape[0]));
    for (channel, row) in weight.data.chunks_exact(per_channel).enumerate() {
        let deviation = (f64::from(norm.var[channel]) + f64::from(BATCH_NORM_EPS)).sqrt();
        let scale = f64::from(norm.weight[channel]) / deviation;
        folded.extend(row.iter().map(|w| (f64::from(*w) * scale) as f32));
        bias.push((f64::from(norm.bias[channel]) - f64::from(norm.mean[channel]) * scale) as f32);
    }
    (folded, bias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_equals_convolving_and_then_normalising() {
        let weight = Tensor::new(vec![2, 1, 1, 1], vec![3.0, -0.5]);
        let norm =
            BatchNorm { weight: &[2.0, 0.25], bias: &[0.1, -1.0], mean: &[4.0, 0.5], var: &[0.999, 8.999] };
        let (folded, bias) = fold_batch_norm(&weight, &norm);
        for channel in 0..2 {
            for x in [-1.5f32, 0.0, 7.0] {
                let convolved = weight.data[channel] * x;
                let eps = BATCH_NORM_EPS;
                let expected = (convolved - norm.mean[channel]) / (norm.var[channel] + eps).sqrt()
                    * norm.weight[channel]
                    + norm.bias[channel];
                let got = folded[channel] * x + bias[channel];
                assert!((got - expected).abs() < 1e-5, "channel {channel}, {x}: {got} instead of {expected}");
            }
        }
    }
}
