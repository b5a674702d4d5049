//! ResNet with bottleneck blocks, as torchvision names and computes it.

use serde::{Deserialize, Serialize};

use super::{ArchitectureError, TensorSpec, push_batch_norm, push_embedding};

/// A bottleneck's output has this many times the channels of its 3x3 convolution.
const EXPANSION: usize = 4;
/// Stages after the stem; their widths double from one to the next.
const STAGES: usize = 4;

/// A ResNet of bottlenecks (stride on the 3x3 convolution) that ends in an embedding.
///
/// Stem (7x7, stride 2, then a 3x3 maximum of stride 2), four stages of blocks, global average pool, optionally a
/// linear layer, unit length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNet {
    /// Blocks per stage.
    pub blocks: [usize; STAGES],
    /// Channels after the stem, and of the first stage's 3x3 convolutions.
    pub width: usize,
    /// Number K of sub-blocks of every block; 1 means dense.
    pub sub_blocks: usize,
    /// Length of the linear embedding layer on the pooled features; without it the features are the embedding.
    pub embedding_dim: Option<usize>,
}

/// One bottleneck: reduce 1x1, convolve 3x3, expand 1x1, each normalised; its input is added before the last ReLU.
///
/// The channels between the 3x3 and the last convolution are independent of each other: they are cut in K. The first
/// convolution is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bottleneck {
    /// Start of the block's tensor names: `layer{stage}.{index}`.
    pub prefix: String,
    /// Channels that come in.
    pub in_channels: usize,
    /// Channels of the 3x3 convolution.
    pub width: usize,
    /// Channels that go out.
    pub out_channels: usize,
    /// Stride of the 3x3 convolution.
    pub stride: usize,
    /// Whether the input goes through a 1x1 convolution of its own before it is added.
    pub downsample: bool,
}

impl Bottleneck {
    fn dense_tensors(&self, out: &mut Vec<TensorSpec>) {
        let p = &self.prefix;
        let mut conv = |conv: &str, norm: &str, shape: [usize; 4]| {
            out.push(TensorSpec::new(format!("{p}.{conv}.weight"), &shape));
            push_batch_norm(out, &format!("{p}.{norm}"), shape[0]);
        };
        conv("conv1", "bn1", [self.width, self.in_channels, 1, 1]);
        conv("conv2", "bn2", [self.width, self.width, 3, 3]);
        conv("conv3", "bn3", [self.out_channels, self.width, 1, 1]);
        if self.downsample {
            conv("downsample.0", "downsample.1", [self.out_channels, self.in_channels, 1, 1]);
        }
    }
}

impl ResNet {
    /// Added to the variance in every batch normalisation of the network.
    pub const BATCH_NORM_EPS: f32 = 1e-5;

    /// The dense ResNet-50 without embedding layer.
    pub fn resnet50() -> ResNet {
        ResNet { blocks: [3, 4, 6, 3], width: 64, sub_blocks: 1, embedding_dim: None }
    }

    /// Length of the pooled features.
    pub fn features(&self) -> usize {
        (self.width << (STAGES - 1)) * EXPANSION
    }

    /// Length of the embedding.
    pub fn output_dim(&self) -> usize {
        self.embedding_dim.unwrap_or_else(|| self.features())
    }

    /// The blocks in order.
    pub fn bottlenecks(&self) -> Vec<Bottleneck> {
        let mut out = Vec::new();
        let mut in_channels = self.width;
        for (stage, &count) in self.blocks.iter().enumerate() {
            let width = self.width << stage;
            let out_channels = width * EXPANSION;
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                out.push(Bottleneck {
                    prefix: format!("layer{}.{index}", stage + 1),
                    in_channels,
                    width,
                    out_channels,
                    stride,
                    downsample: stride != 1 || in_channels != out_channels,
                });
                in_channels = out_channels;
            }
        }
        out
    }

    /// Checks that the numbers fit together.
    pub fn validate(&self) -> Result<(), ArchitectureError> {
        let numbers = [("width", self.width), ("sub_blocks", self.sub_blocks)];
        let blocks = self.blocks.map(|count| ("blocks", count));
        if let Some((name, _)) = numbers.iter().chain(&blocks).find(|(_, value)| *value == 0) {
            return Err(ArchitectureError::new(format!("{name} is 0")));
        }
        if self.embedding_dim == Some(0) {
            return Err(ArchitectureError::new("embedding_dim is 0"));
        }
        // Later stages are multiples of the first.
        ArchitectureError::unless_divides(self.sub_blocks, "width", self.width)
    }

    /// The tensors of the dense network, with the embedding layer if there is one.
    pub fn dense_tensors(&self) -> Vec<TensorSpec> {
        let mut out = vec![TensorSpec::new("conv1.weight", &[self.width, 3, 7, 7])];
        push_batch_norm(&mut out, "bn1", self.width);
        for block in self.bottlenecks() {
            block.dense_tensors(&mut out);
        }
        push_embedding(&mut out, self.embedding_dim, self.features());
        out
    }

    /// One router per block, on the block's globally pooled input: `layer{s}.{i}.gate.weight` \[K, in\].
    pub fn gate_tensors(&self) -> Vec<TensorSpec> {
        if self.sub_blocks <= 1 {
            return Vec::new();
        }
        let gate = |b: Bottleneck| {
            TensorSpec::new(format!("{}.gate.weight", b.prefix), &[self.sub_blocks, b.in_channels])
        };
        self.bottlenecks().into_iter().map(gate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resnet50_has_the_published_shape() {
        let net = ResNet::resnet50();
        let blocks = net.bottlenecks();
        assert_eq!(blocks.len(), 16);
        let downsampled: Vec<&str> =
            blocks.iter().filter(|b| b.downsample).map(|b| b.prefix.as_str()).collect();
        assert_eq!(downsampled, ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]);
        let strided: Vec<&str> = blocks.iter().filter(|b| b.stride == 2).map(|b| b.prefix.as_str()).collect();
        assert_eq!(strided, ["layer2.0", "layer3.0", "layer4.0"]);
        // torchvision: 25,557,032 parameters, of which the classifier has 2,049,000.
        let learned = |spec: &TensorSpec| !spec.name.contains("running");
        let count: usize = net
            .dense_tensors()
            .iter()
            .filter(|spec| learned(spec))
            .map(|spec| spec.shape.iter().product::<usize>())
            .sum();
        assert_eq!(count, 25_557_032 - 2_049_000);
    }

    #[test]
    fn sub_blocks_must_divide_the_width() {
        let bad = ResNet { sub_blocks: 3, ..ResNet::resnet50() };
        let text = bad.validate().unwrap_err().to_string();
        assert!(
            text.contains("sub_blocks (3) does not divide width (64)") && text.contains("2, 4, 8"),
            "{text}"
        );
        assert_eq!(ResNet { sub_blocks: 4, ..ResNet::resnet50() }.validate(), Ok(()));
    }
}
