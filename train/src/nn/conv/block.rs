//! One convolutional block, dense in memory, whose inner channels are cut into K sub-blocks.

use tch::Tensor;

use super::conv_bn::{ConvBn, Fused, Statistics};

/// A rectified linear unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Relu,
    Relu6,
}

impl Activation {
    /// In place.
    pub(super) fn apply(self, mut x: Tensor) -> Tensor {
        match self {
            Activation::Relu => x.relu_(),
            Activation::Relu6 => x.relu6_(),
        }
    }
}

/// What is added to a block's output.
#[derive(Debug)]
pub(super) enum Shortcut {
    /// Nothing.
    None,
    /// The block's input.
    Input,
    /// The block's input, convolved.
    Conv(Box<ConvBn>),
}

/// An inverted bottleneck (EfficientNet-Lite) or a bottleneck (ResNet).
///
/// `reduce` is shared. Between `inner` and `project` every channel is on its own: sub-block k is rows `k*m .. (k+1)*m` of
/// each inner convolution and the same columns of `project`, where `m = width / K`. A slice shares storage and
/// gradient with the whole, so training the slices is training the factorised network, and the full stream runs as
/// one dense block.
#[derive(Debug)]
pub(super) struct Block {
    /// ResNet's first convolution.
    pub(super) reduce: Option<ConvBn>,
    /// Expand and depthwise (EfficientNet-Lite), or 3x3 (ResNet); each with the activation after it.
    pub(super) inner: Vec<ConvBn>,
    pub(super) project: ConvBn,
    pub(super) shortcut: Shortcut,
    /// After `reduce` and each of `inner`.
    pub(super) activation: Activation,
    /// Whether the activation follows the sum with the shortcut.
    pub(super) activate_sum: bool,
    /// Channels between `inner` and `project`.
    pub(super) width: i64,
    /// Number K of sub-blocks; 1 where the block is not cut.
    pub(super) sub_blocks: i64,
    /// Router weight `[K, in_channels]`; None where the block is not cut, or not routed.
    pub(super) gate: Option<Tensor>,
}

/// A block's convolutions with their normalisations multiplied in, shared by both streams of one pass.
pub(super) struct FusedBlock {
    reduce: Option<Fused>,
    inner: Vec<Fused>,
    project: Fused,
    shortcut: Option<Fused>,
}

impl Block {
    /// All sub-blocks at once, as the dense block: `[batch, in, h, w] -> [batch, out, h', w']`.
    pub(super) fn full(&self, x: &Tensor, statistics: Statistics) -> (Tensor, FusedBlock) {
        let run = |conv: &ConvBn, x: &Tensor| {
            let (out, fused) = conv.forward(x, statistics);
            (self.activation.apply(out), fused)
        };
        let (mut hidden, reduce) = match &self.reduce {
            Some(conv) => {
                let (out, fused) = run(conv, x);
                (out, Some(fused))
            }
            None => (x.shallow_clone(), None),
        };
        let mut inner = Vec::with_capacity(self.inner.len());
        for conv in &self.inner {
            let (out, fused) = run(conv, &hidden);
            hidden = out;
            inner.push(fused);
        }
        let (out, project) = self.project.forward(&hidden, statistics);
        let (out, shortcut) = match &self.shortcut {
            Shortcut::None => (out, None),
            Shortcut::Input => (out + x, None),
            Shortcut::Conv(conv) => {
                let (branch, fused) = conv.forward(x, statistics);
                (out + branch, Some(fused))
            }
        };
        (self.after_sum(out), FusedBlock { reduce, inner, project, shortcut })
    }

    /// All sub-blocks at once with what another stream of the pass has `fused`.
    pub(super) fn same(&self, x: &Tensor, fused: &FusedBlock) -> Tensor {
        let mut hidden = self.shared(x, fused);
        for (conv, fused) in self.inner.iter().zip(&fused.inner) {
            hidden = self.activation.apply(conv.apply(&hidden, fused));
        }
        self.finish(x, self.project.apply(&hidden, &fused.project), fused)
    }

    /// What all sub-blocks share: the input of `inner`.
    pub(super) fn shared(&self, x: &Tensor, fused: &FusedBlock) -> Tensor {
        match (&self.reduce, &fused.reduce) {
            (Some(conv), Some(fused)) => self.activation.apply(conv.apply(x, fused)),
            _ => x.shallow_clone(),
        }
    }

    /// Sub-block `k` alone on `shared` `[n, channels, h, w]`, with its 1/K share of the last shift.
    pub(super) fn sub_block(&self, shared: &Tensor, k: i64, fused: &FusedBlock) -> Tensor {
        let width = self.width / self.sub_blocks;
        let start = k * width;
        let mut hidden = shared.shallow_clone();
        for (conv, fused) in self.inner.iter().zip(&fused.inner) {
            hidden = self.activation.apply(conv.apply_rows(&hidden, fused, start, width));
        }
        let share = 1.0 / self.sub_blocks as f64;
        self.project.apply_columns(&hidden, &fused.project, start, width, share)
    }

    /// Everything multiplied in, on the running statistics.
    pub(super) fn fuse(&self) -> FusedBlock {
        FusedBlock {
            reduce: self.reduce.as_ref().map(ConvBn::fuse_running),
            inner: self.inner.iter().map(ConvBn::fuse_running).collect(),
            project: self.project.fuse_running(),
            shortcut: match &self.shortcut {
                Shortcut::Conv(conv) => Some(conv.fuse_running()),
                _ => None,
            },
        }
    }

    /// The block's output from its sum over sub-blocks: `added` to the shortcut of `x`.
    pub(super) fn finish(&self, x: &Tensor, added: Tensor, fused: &FusedBlock) -> Tensor {
        self.finish_on(self.branch(x, fused), added)
    }

    /// What the shortcut adds; None where there is none.
    pub(super) fn branch(&self, x: &Tensor, fused: &FusedBlock) -> Option<Tensor> {
        match (&self.shortcut, &fused.shortcut) {
            (Shortcut::Input, _) => Some(x.shallow_clone()),
            (Shortcut::Conv(conv), Some(fused)) => Some(conv.apply(x, fused)),
            _ => None,
        }
    }

    /// As [`finish`](Self::finish), with the shortcut's `branch` known.
    pub(super) fn finish_on(&self, branch: Option<Tensor>, added: Tensor) -> Tensor {
        self.after_sum(match branch {
            Some(branch) => added + branch,
            None => added,
        })
    }

    fn after_sum(&self, sum: Tensor) -> Tensor {
        if self.activate_sum { self.activation.apply(sum) } else { sum }
    }
}
