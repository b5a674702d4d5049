//! What the convolutional networks have in common: convolutions with their batch normalisations folded in, and the end.

use super::graph::{Conv, GraphBuilder, Pads, Value};
use super::proto::GraphProto;
use crate::arch::SamePadding;
use crate::weights::{Tensor, TensorMap};

/// How an image is padded before a convolution.
#[derive(Clone, Copy)]
pub(super) enum Padding {
    /// TensorFlow's SAME, which depends on the image's size.
    Same,
    /// `kernel / 2` on every side, as torchvision's ResNet has it.
    Half,
}

/// Writes a convolutional network, keeping track of the image's size.
pub(super) struct ConvWriter<'a> {
    pub(super) graph: GraphBuilder,
    weights: &'a TensorMap,
    padding: Padding,
    /// Added to the variance in every batch normalisation.
    eps: f32,
    height: usize,
    width: usize,
}

impl<'a> ConvWriter<'a> {
    /// A network for images of the given size.
    pub(super) fn new(
        name: &str,
        weights: &'a TensorMap,
        padding: Padding,
        eps: f32,
        (height, width): (usize, usize),
    ) -> (ConvWriter<'a>, Value) {
        let (graph, pixels) = GraphBuilder::new(name, height, width);
        (ConvWriter { graph, weights, padding, eps, height, width }, pixels)
    }

    /// A convolution and the batch normalisation after it.
    pub(super) fn conv(
        &mut self,
        name: &str,
        norm: &str,
        input: &Value,
        stride: usize,
        groups: usize,
    ) -> Value {
        let weight = &self.weights[&format!("{name}.weight")];
        let (folded, bias) = fold_batch_norm(weight, &BatchNorm::of(self.weights, norm), self.eps);
        let pads = self.pads(weight.shape[2], weight.shape[3], stride);
        self.shrink(stride);
        let conv = Conv { shape: &weight.shape, weight: &folded, bias: &bias, stride, pads, groups };
        self.graph.conv(name, input, &conv)
    }

    /// Padding of the image as it is now.
    pub(super) fn pads(&self, rows: usize, columns: usize, stride: usize) -> Pads {
        let of = |size, kernel: usize| match self.padding {
            Padding::Same => SamePadding::of(size, kernel, stride),
            Padding::Half => SamePadding { before: kernel / 2, after: kernel / 2 },
        };
        let (vertical, horizontal) = (of(self.height, rows), of(self.width, columns));
        Pads {
            top: vertical.before,
            left: horizontal.before,
            bottom: vertical.after,
            right: horizontal.after,
        }
    }

    /// Takes note that the image has shrunk by `stride`.
    pub(super) fn shrink(&mut self, stride: usize) {
        self.height = self.height.div_ceil(stride);
        self.width = self.width.div_ceil(stride);
    }

    /// The image's height and width at this point of the network.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Goes back to an earlier point, for a branch that starts there.
    pub(super) fn set_size(&mut self, (height, width): (usize, usize)) {
        (self.height, self.width) = (height, width);
    }

    /// Averages over the image, embeds if there is an embedding layer, and ends the graph.
    pub(super) fn finish(mut self, image: &Value, embedding: bool, dim: usize) -> GraphProto {
        let pooled = self.graph.node("GlobalAveragePool", "pooled", &[image], Vec::new());
        let features = self.graph.node("Flatten", "features", &[&pooled], Vec::new());
        let rows = if embedding { embed(&mut self.graph, self.weights, &features) } else { features };
        self.graph.finish(&rows, dim)
    }
}

/// The linear embedding layer on features.
pub(super) fn embed(graph: &mut GraphBuilder, weights: &TensorMap, features: &Value) -> Value {
    let (weight, bias) = (&weights["embedding.weight"], &weights["embedding.bias"]);
    // Not "embedding": that is the name of the output.
    graph.linear("projected", features, &weight.shape, &weight.data, &bias.data)
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
fn fold_batch_norm(weight: &Tensor, norm: &BatchNorm<'_>, eps: f32) -> (Vec<f32>, Vec<f32>) {
    let per_channel = weight.numel() / weight.shape[0];
    let (mut folded, mut bias) = (Vec::with_capacity(weight.numel()), Vec::with_capacity(weight.shape[0]));
    for (channel, row) in weight.data.chunks_exact(per_channel).enumerate() {
        let deviation = (f64::from(norm.var[channel]) + f64::from(eps)).sqrt();
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
        let eps = 1e-3;
        let (folded, bias) = fold_batch_norm(&weight, &norm, eps);
        for channel in 0..2 {
            for x in [-1.5f32, 0.0, 7.0] {
                let convolved = weight.data[channel] * x;
                let expected = (convolved - norm.mean[channel]) / (norm.var[channel] + eps).sqrt()
                    * norm.weight[channel]
                    + norm.bias[channel];
                let got = folded[channel] * x + bias[channel];
                assert!((got - expected).abs() < 1e-5, "channel {channel}, {x}: {got} instead of {expected}");
            }
        }
    }
}
