//! Convolution followed by a frozen batch normalisation, as one operation.

use tch::{Device, Tensor};

use dfml_models::TensorMap;
use dfml_models::arch::{BATCH_NORM_EPS, SamePadding};

use crate::error::TrainError;
use crate::nn::params::{Group, Params};

/// Epsilon of EfficientNet-Lite's batch normalisations.
const BN_EPS: f64 = BATCH_NORM_EPS as f64;

/// Where a [`ConvBn`] finds its tensors and how it convolves.
pub(crate) struct ConvBnSpec {
    pub(crate) conv: String,
    pub(crate) bn: String,
    /// `[out, in / groups, kernel, kernel]`
    pub(crate) shape: [usize; 4],
    pub(crate) stride: usize,
    pub(crate) depthwise: bool,
}

/// A bias-free convolution and the batch normalisation after it, with frozen running statistics.
///
/// The normalisation is multiplied into the weights on each pass (gradients reach the convolution's weight and the
/// normalisation's scale and shift), so it costs nothing on the activations.
#[derive(Debug)]
pub(crate) struct ConvBn {
    pub(super) weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    kernel: i64,
    stride: i64,
    groups: i64,
}

/// The weight and bias of a [`ConvBn`] with the normalisation multiplied in.
#[derive(Debug)]
pub(crate) struct Fused {
    /// `[out, in / groups, kernel, kernel]`
    pub(crate) weight: Tensor,
    /// `[out]`
    pub(crate) bias: Tensor,
}

impl ConvBn {
    pub(crate) fn load(
        params: &mut Params,
        weights: &TensorMap,
        spec: &ConvBnSpec,
        group: Group,
        device: Device,
    ) -> Result<Self, TrainError> {
        let out = spec.shape[0];
        let weight = params.load(weights, format!("{}.weight", spec.conv), &spec.shape, group, device)?;
        let mut vector =
            |part: &str, group| params.load(weights, format!("{}.{part}", spec.bn), &[out], group, device);
        Ok(Self {
            weight,
            gamma: vector("weight", group)?,
            beta: vector("bias", group)?,
            mean: vector("running_mean", Group::Buffer)?,
            variance: vector("running_var", Group::Buffer)?,
            kernel: spec.shape[2] as i64,
            stride: spec.stride as i64,
            groups: if spec.depthwise { out as i64 } else { 1 },
        })
    }

    pub(crate) fn fuse(&self) -> Fused {
        let scale = &self.gamma * (&self.variance + BN_EPS).rsqrt();
        let bias = &self.beta - &self.mean * &scale;
        Fused { weight: &self.weight * scale.view([-1, 1, 1, 1]), bias }
    }

    /// Convolves with all channels: `[batch, in, h, w] -> [batch, out, h / stride, w / stride]`.
    pub(crate) fn forward(&self, x: &Tensor, fused: &Fused) -> Tensor {
        self.convolve(x, &fused.weight, Some(&fused.bias), self.groups)
    }

    /// Convolves with output channels `start .. start + len` only (and, if depthwise, those input channels).
    pub(crate) fn forward_rows(&self, x: &Tensor, fused: &Fused, start: i64, len: i64) -> Tensor {
        let groups = if self.groups == 1 { 1 } else { len };
        let bias = fused.bias.narrow(0, start, len);
        self.convolve(x, &fused.weight.narrow(0, start, len), Some(&bias), groups)
    }

    /// Convolves with TensorFlow's SAME padding, which at stride 2 puts the odd pixel at the bottom right.
    pub(crate) fn convolve(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, groups: i64) -> Tensor {
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
        let padding = SamePadding::of(size as usize, self.kernel as usize, self.stride as usize);
        [padding.before as i64, padding.after as i64]
    }
}
