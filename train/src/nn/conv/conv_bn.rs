//! Convolution followed by batch normalisation, as one operation where the statistics are frozen.

use dfml_models::TensorMap;
use dfml_models::arch::SamePadding;
use tch::{Device, Tensor};

use crate::error::TrainError;
use crate::nn::params::{Group, Params};

/// How an image is padded before a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    /// TensorFlow's SAME, which at stride 2 puts the odd pixel at the bottom right.
    Same,
    /// `kernel / 2` on every side, as torchvision's ResNet has it.
    Half,
}

/// What all convolutions of one network have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) padding: Padding,
    /// Added to the variance in every batch normalisation.
    pub(super) eps: f64,
    /// Share of the batch in the running statistics, where they are not frozen.
    pub(super) momentum: f64,
}

/// Where a [`ConvBn`] finds its tensors and how it convolves.
pub(super) struct ConvBnSpec {
    pub(super) conv: String,
    pub(super) bn: String,
    /// `[out, in / groups, kernel, kernel]`
    pub(super) shape: [usize; 4],
    pub(super) stride: usize,
    pub(super) depthwise: bool,
}

/// Takes layers out of a weight map into the network's parameters.
pub(super) struct Loader<'a> {
    pub(super) params: &'a mut Params,
    pub(super) weights: &'a TensorMap,
    pub(super) device: Device,
}

impl Loader<'_> {
    pub(super) fn conv(
        &mut self,
        spec: &ConvBnSpec,
        style: Style,
        group: Group,
    ) -> Result<ConvBn, TrainError> {
        let out = spec.shape[0];
        let mut load = |name: String, shape: &[usize], group| {
            self.params.load(self.weights, name, shape, group, self.device)
        };
        Ok(ConvBn {
            weight: load(format!("{}.weight", spec.conv), &spec.shape, group)?,
            gamma: load(format!("{}.weight", spec.bn), &[out], group)?,
            beta: load(format!("{}.bias", spec.bn), &[out], group)?,
            mean: load(format!("{}.running_mean", spec.bn), &[out], Group::Buffer)?,
            variance: load(format!("{}.running_var", spec.bn), &[out], Group::Buffer)?,
            style,
            frozen: group == Group::Buffer,
            kernel: spec.shape[2] as i64,
            stride: spec.stride as i64,
            groups: if spec.depthwise { out as i64 } else { 1 },
        })
    }
}

/// A bias-free convolution and the batch normalisation after it.
///
/// On running statistics the normalisation is multiplied into the weights on each pass (gradients reach the
/// convolution's weight and the normalisation's scale and shift), so it costs nothing on the activations.
#[derive(Debug)]
pub(super) struct ConvBn {
    pub(super) weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    style: Style,
    /// Whether nothing of it is trained: then it runs on its running statistics in every case.
    frozen: bool,
    kernel: i64,
    stride: i64,
    groups: i64,
}

/// Which statistics batch normalisations use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statistics {
    /// The running ones, as they are.
    Running,
    /// The batch's; the running ones follow.
    Batch,
}

/// The weight and bias of a [`ConvBn`] with the normalisation multiplied in.
#[derive(Debug)]
pub(super) struct Fused {
    /// `[out, in / groups, kernel, kernel]`
    pub(super) weight: Tensor,
    /// `[out]`
    pub(super) bias: Tensor,
}

impl ConvBn {
    /// `[batch, in, h, w] -> [batch, out, h / stride, w / stride]` with all channels, and what it amounts to as one
    /// convolution, for streams and sub-blocks that share its statistics.
    pub(super) fn forward(&self, x: &Tensor, statistics: Statistics) -> (Tensor, Fused) {
        if statistics == Statistics::Running || self.frozen {
            let fused = self.fuse_running();
            return (self.apply(x, &fused), fused);
        }
        let (out, mean, deviation) = self.convolved(x).native_batch_norm(
            Some(&self.gamma),
            Some(&self.beta),
            Some(&self.mean),
            Some(&self.variance),
            true,
            self.style.momentum,
            self.style.eps,
        );
        (out, self.fuse(&mean.detach(), &deviation.detach()))
    }

    /// The normalisation by its running statistics, multiplied in.
    pub(super) fn fuse_running(&self) -> Fused {
        self.fuse(&self.mean, &(&self.variance + self.style.eps).rsqrt())
    }

    /// The normalisation by `mean` and the inverse deviation `inverse`, multiplied in.
    fn fuse(&self, mean: &Tensor, inverse: &Tensor) -> Fused {
        let scale = &self.gamma * inverse;
        let bias = &self.beta - mean * &scale;
        Fused { weight: &self.weight * scale.view([-1, 1, 1, 1]), bias }
    }

    /// The convolution alone.
    pub(super) fn convolved(&self, x: &Tensor) -> Tensor {
        self.convolve(x, &self.weight, None, self.groups)
    }

    /// Convolves with all channels.
    pub(super) fn apply(&self, x: &Tensor, fused: &Fused) -> Tensor {
        self.convolve(x, &fused.weight, Some(&fused.bias), self.groups)
    }

    /// Convolves with output channels `start .. start + len` only (and, if depthwise, those input channels).
    pub(super) fn apply_rows(&self, x: &Tensor, fused: &Fused, start: i64, len: i64) -> Tensor {
        let groups = if self.groups == 1 { 1 } else { len };
        let bias = fused.bias.narrow(0, start, len);
        self.convolve(x, &fused.weight.narrow(0, start, len), Some(&bias), groups)
    }

    /// Convolves with input channels `start .. start + len` only, and a share of the bias.
    pub(super) fn apply_columns(
        &self,
        x: &Tensor,
        fused: &Fused,
        start: i64,
        len: i64,
        share: f64,
    ) -> Tensor {
        let bias = &fused.bias * share;
        self.convolve(x, &fused.weight.narrow(1, start, len), Some(&bias), self.groups)
    }

    fn convolve(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, groups: i64) -> Tensor {
        let size = x.size();
        let (rows, columns) = (self.padding(size[2]), self.padding(size[3]));
        if rows[0] == rows[1] && columns[0] == columns[1] {
            return x.conv2d(weight, bias, [self.stride; 2], [rows[0], columns[0]], [1, 1], groups);
        }
        let padded = x.constant_pad_nd([columns[0], columns[1], rows[0], rows[1]]);
        padded.conv2d(weight, bias, [self.stride; 2], [0, 0], [1, 1], groups)
    }

    /// Padding before and after an axis of `size` pixels.
    fn padding(&self, size: i64) -> [i64; 2] {
        match self.style.padding {
            Padding::Half => [self.kernel / 2; 2],
            Padding::Same => {
                let padding = SamePadding::of(size as usize, self.kernel as usize, self.stride as usize);
                [padding.before as i64, padding.after as i64]
            }
        }
    }
}
