//! EfficientNet-Lite: inverted bottlenecks without squeeze-and-excitation, ReLU6 throughout.

use serde::{Deserialize, Serialize};

use super::{ArchitectureError, TensorSpec, push_batch_norm, push_embedding};

const STEM_CHANNELS: usize = 32;
const HEAD_CHANNELS: usize = 1280;
/// The expanded width of a block is this many times its input's.
const EXPANSION: usize = 6;

/// One stage of the smallest network: (repeats, kernel, stride of its first block, expands, output channels).
type Stage = (usize, usize, usize, bool, usize);
const STAGES: [Stage; 7] = [
    (1, 3, 1, false, 16),
    (2, 3, 2, true, 24),
    (2, 5, 2, true, 40),
    (3, 3, 2, true, 80),
    (3, 5, 1, true, 112),
    (4, 5, 2, true, 192),
    (1, 3, 1, true, 320),
];

/// The published sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiteVariant {
    /// 4.7 M parameters, 0.4 GMACs at its own resolution of 224.
    Lite0,
    /// Deeper; 240 pixels.
    Lite1,
    /// Deeper and wider; 260 pixels.
    Lite2,
    /// 280 pixels.
    Lite3,
    /// The largest; 300 pixels.
    Lite4,
}

impl LiteVariant {
    /// (width multiplier, depth multiplier), each in tenths, so that rounding is exact.
    fn multipliers_in_tenths(self) -> (usize, usize) {
        match self {
            LiteVariant::Lite0 => (10, 10),
            LiteVariant::Lite1 => (10, 11),
            LiteVariant::Lite2 => (11, 12),
            LiteVariant::Lite3 => (12, 14),
            LiteVariant::Lite4 => (14, 18),
        }
    }

    /// Side in pixels of the square images it was pretrained on.
    pub fn native_resolution(self) -> u32 {
        match self {
            LiteVariant::Lite0 => 224,
            LiteVariant::Lite1 => 240,
            LiteVariant::Lite2 => 260,
            LiteVariant::Lite3 => 280,
            LiteVariant::Lite4 => 300,
        }
    }
}

/// An EfficientNet-Lite that ends in an embedding.
///
/// Stem (3x3, stride 2), blocks, head (1x1), global average pool, optionally a linear layer, unit length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EfficientNetLite {
    /// Which of the published sizes.
    pub variant: LiteVariant,
    /// Number K of sub-blocks of every block that can be factorised; 1 means dense.
    pub sub_blocks: usize,
    /// Length of the linear embedding layer on the pooled features; without it the features are the embedding.
    pub embedding_dim: Option<usize>,
}

/// One inverted bottleneck: expand 1x1, depthwise, project 1x1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbConv {
    /// Position in the network, from 0; part of the tensor names.
    pub index: usize,
    /// Channels that come in.
    pub in_channels: usize,
    /// Channels between expand and project (equal to `in_channels` where `expand` is false).
    pub expanded_channels: usize,
    /// Channels that go out.
    pub out_channels: usize,
    /// Side of the depthwise kernel.
    pub kernel: usize,
    /// Stride of the depthwise convolution.
    pub stride: usize,
    /// Whether there is an expanding convolution; the first block has none.
    pub expand: bool,
    /// Whether the input is added to the output.
    pub residual: bool,
}

impl MbConv {
    /// Whether the block is split in `sub_blocks` parts: all are but the first, which does not expand. That one stays
    /// dense and shared, and has no router.
    pub fn is_factorized(&self, sub_blocks: usize) -> bool {
        sub_blocks > 1 && self.expand
    }

    /// Start of the block's tensor names: `_blocks.{index}`.
    pub fn prefix(&self) -> String {
        format!("_blocks.{}", self.index)
    }

    fn dense_tensors(&self, out: &mut Vec<TensorSpec>) {
        let (p, e) = (self.prefix(), self.expanded_channels);
        if self.expand {
            out.push(TensorSpec::new(format!("{p}._expand_conv.weight"), &[e, self.in_channels, 1, 1]));
            push_batch_norm(out, &format!("{p}._bn0"), e);
        }
        out.push(TensorSpec::new(format!("{p}._depthwise_conv.weight"), &[e, 1, self.kernel, self.kernel]));
        push_batch_norm(out, &format!("{p}._bn1"), e);
        out.push(TensorSpec::new(format!("{p}._project_conv.weight"), &[self.out_channels, e, 1, 1]));
        push_batch_norm(out, &format!("{p}._bn2"), self.out_channels);
    }
}

/// Zeros around one side of an image before a convolution, as TensorFlow's SAME padding asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamePadding {
    /// Before the first row (or column).
    pub before: usize,
    /// After the last; one more than `before` where the total is odd.
    pub after: usize,
}

impl SamePadding {
    /// Padding of a side of `size` pixels, such that `ceil(size / stride)` remain.
    ///
    /// With stride 2 it depends on the size: an even side is padded more after than before.
    pub fn of(size: usize, kernel: usize, stride: usize) -> SamePadding {
        let out = size.div_ceil(stride);
        let total = (out.saturating_sub(1) * stride + kernel).saturating_sub(size);
        SamePadding { before: total / 2, after: total - total / 2 }
    }
}

impl EfficientNetLite {
    /// Added to the variance in every batch normalisation of the network.
    pub const BATCH_NORM_EPS: f32 = 1e-3;

    /// The dense EfficientNet-Lite0 without embedding layer: what the published weights are for.
    pub fn lite0() -> EfficientNetLite {
        EfficientNetLite { variant: LiteVariant::Lite0, sub_blocks: 1, embedding_dim: None }
    }

    /// Channels after the stem.
    pub fn stem_channels(&self) -> usize {
        STEM_CHANNELS
    }

    /// Channels after the last convolution, and so the length of the pooled features.
    pub fn head_channels(&self) -> usize {
        HEAD_CHANNELS
    }

    /// Length of the embedding.
    pub fn output_dim(&self) -> usize {
        self.embedding_dim.unwrap_or(HEAD_CHANNELS)
    }

    /// The blocks in order.
    pub fn blocks(&self) -> Vec<MbConv> {
        let (width, depth) = self.variant.multipliers_in_tenths();
        let mut blocks = Vec::new();
        let mut in_channels = STEM_CHANNELS;
        for (stage, &(repeats, kernel, stride, expand, channels)) in STAGES.iter().enumerate() {
            // The Lite family does not deepen the first and the last stage.
            let fixed = stage == 0 || stage == STAGES.len() - 1;
            let repeats = if fixed { repeats } else { (repeats * depth).div_ceil(10) };
            let out_channels = scale_channels(channels, width);
            for repeat in 0..repeats {
                let stride = if repeat == 0 { stride } else { 1 };
                blocks.push(MbConv {
                    index: blocks.len(),
                    in_channels,
                    expanded_channels: if expand { EXPANSION * in_channels } else { in_channels },
                    out_channels,
                    kernel,
                    stride,
                    expand,
                    residual: stride == 1 && in_channels == out_channels,
                });
                in_channels = out_channels;
            }
        }
        blocks
    }

    /// Checks that the numbers fit together.
    pub fn validate(&self) -> Result<(), ArchitectureError> {
        if self.sub_blocks == 0 {
            return Err(ArchitectureError::new("sub_blocks is 0; 1 means dense"));
        }
        if self.embedding_dim == Some(0) {
            return Err(ArchitectureError::new("embedding_dim is 0"));
        }
        self.blocks().iter().filter(|block| block.is_factorized(self.sub_blocks)).try_for_each(|block| {
            let width = format!("the expanded width of {}", block.prefix());
            ArchitectureError::unless_divides(self.sub_blocks, &width, block.expanded_channels)
        })
    }

    /// The tensors of the dense network, with the embedding layer if there is one.
    pub fn dense_tensors(&self) -> Vec<TensorSpec> {
        let blocks = self.blocks();
        let mut out = vec![TensorSpec::new("_conv_stem.weight", &[STEM_CHANNELS, 3, 3, 3])];
        push_batch_norm(&mut out, "_bn0", STEM_CHANNELS);
        for block in &blocks {
            block.dense_tensors(&mut out);
        }
        let last = blocks.last().map_or(STEM_CHANNELS, |block| block.out_channels);
        out.push(TensorSpec::new("_conv_head.weight", &[HEAD_CHANNELS, last, 1, 1]));
        push_batch_norm(&mut out, "_bn1", HEAD_CHANNELS);
        push_embedding(&mut out, self.embedding_dim, HEAD_CHANNELS);
        out
    }

    /// One router per factorised block, on the block's globally pooled input: `_blocks.{i}.gate.weight` \[K, in\].
    pub fn gate_tensors(&self) -> Vec<TensorSpec> {
        self.blocks()
            .iter()
            .filter(|block| block.is_factorized(self.sub_blocks))
            .map(|b| {
                TensorSpec::new(format!("{}.gate.weight", b.prefix()), &[self.sub_blocks, b.in_channels])
            })
            .collect()
    }
}

/// Widens to a multiple of 8, never narrowing by more than a tenth.
fn scale_channels(channels: usize, width_in_tenths: usize) -> usize {
    let scaled = channels * width_in_tenths; // in tenths
    let rounded = ((scaled + 40) / 80 * 8).max(8);
    if rounded * 100 < 9 * scaled { rounded + 8 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lite0_has_the_published_blocks() {
        let blocks = EfficientNetLite::lite0().blocks();
        assert_eq!(blocks.len(), 16);
        let out: Vec<usize> = blocks.iter().map(|b| b.out_channels).collect();
        assert_eq!(out, [16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]);
        let strided: Vec<usize> = blocks.iter().filter(|b| b.stride == 2).map(|b| b.index).collect();
        assert_eq!(strided, [1, 3, 5, 11]);
        let residual: Vec<usize> = blocks.iter().filter(|b| b.residual).map(|b| b.index).collect();
        assert_eq!(residual, [2, 4, 6, 7, 9, 10, 12, 13, 14]);
        assert!(!blocks[0].expand && blocks[1..].iter().all(|b| b.expand && b.is_factorized(3)));
    }

    #[test]
    fn larger_variants_scale_as_published() {
        let channels = |variant| {
            let net = EfficientNetLite { variant, ..EfficientNetLite::lite0() };
            net.blocks().iter().map(|b| b.out_channels).collect::<Vec<_>>()
        };
        assert_eq!(channels(LiteVariant::Lite1).len(), 21);
        let mut lite4 = channels(LiteVariant::Lite4);
        assert_eq!(lite4.len(), 30);
        lite4.dedup();
        assert_eq!(lite4, [24, 32, 56, 112, 160, 272, 448]);
        let mut lite3 = channels(LiteVariant::Lite3);
        lite3.dedup();
        assert_eq!(lite3, [24, 32, 48, 96, 136, 232, 384]);
    }

    #[test]
    fn same_padding_is_asymmetric_where_the_side_is_even() {
        assert_eq!(SamePadding::of(224, 3, 2), SamePadding { before: 0, after: 1 });
        assert_eq!(SamePadding::of(225, 3, 2), SamePadding { before: 1, after: 1 });
        assert_eq!(SamePadding::of(56, 5, 2), SamePadding { before: 1, after: 2 });
        assert_eq!(SamePadding::of(14, 5, 1), SamePadding { before: 2, after: 2 });
        assert_eq!(SamePadding::of(1, 1, 2), SamePadding { before: 0, after: 0 });
    }

    #[test]
    fn validation_names_the_number() {
        let bad = EfficientNetLite { sub_blocks: 0, ..EfficientNetLite::lite0() };
        assert!(bad.validate().unwrap_err().to_string().contains("sub_blocks"));
        let bad = EfficientNetLite { sub_blocks: 7919, ..EfficientNetLite::lite0() };
        assert!(bad.validate().unwrap_err().to_string().contains("7919"));
        let bad = EfficientNetLite { sub_blocks: 5, ..EfficientNetLite::lite0() };
        let text = bad.validate().unwrap_err().to_string();
        assert!(
            text.contains("sub_blocks (5) does not divide the expanded width of _blocks.1 (96)"),
            "{text}"
        );
    }
}
