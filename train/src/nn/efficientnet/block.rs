//! One inverted bottleneck: expand 1x1, depthwise, project 1x1; its expanded channels cut into K sub-blocks.

use dfml_models::{MbConv, TensorMap};
use tch::{Device, Tensor};

use super::conv::{ConvBn, ConvBnSpec, Fused};
use crate::error::TrainError;
use crate::nn::params::{Group, Params};
use crate::nn::router::{Routing, route};

/// An inverted bottleneck, dense in memory: sub-block k is rows `k*m .. (k+1)*m` of expand and depthwise and the same
/// columns of project, where `m = expanded / K`. A slice shares storage and gradient with the whole, so training
/// the slices is training the factorised network, and the full stream runs as one dense block.
#[derive(Debug)]
pub(crate) struct Block {
    spec: MbConv,
    expand: Option<ConvBn>,
    depthwise: ConvBn,
    pub(super) project: ConvBn,
    /// Router weight `[K, in_channels]`; None where the block is not cut (no expansion) or not routed (frozen).
    pub(crate) gate: Option<Tensor>,
    sub_blocks: i64,
}

/// A block's three convolutions with their normalisations multiplied in, shared by both streams of one pass.
pub(crate) struct FusedBlock {
    expand: Option<Fused>,
    depthwise: Fused,
    project: Fused,
}

/// What a routed pass through one block yields.
pub(crate) struct RoutedBlock {
    /// `[batch, out, h, w]`
    pub(crate) output: Tensor,
    /// L2 gap to the full stream over channels, averaged over positions, summed over the batch; its gradient reaches
    /// only the router.
    pub(crate) gap: Tensor,
    /// Chosen sub-block per image, `[batch]`.
    pub(crate) choice: Tensor,
}

impl Block {
    pub(crate) fn load(
        params: &mut Params,
        weights: &TensorMap,
        spec: MbConv,
        group: Group,
        device: Device,
    ) -> Result<Self, TrainError> {
        let prefix = format!("_blocks.{}", spec.index);
        let mut conv = |conv: &str, bn: &str, shape, stride, depthwise| {
            let spec = ConvBnSpec {
                conv: format!("{prefix}.{conv}"),
                bn: format!("{prefix}.{bn}"),
                shape,
                stride,
                depthwise,
            };
            ConvBn::load(params, weights, &spec, group, device)
        };
        let (cin, mid, out, k) = (spec.in_channels, spec.expanded_channels, spec.out_channels, spec.kernel);
        let expand =
            spec.expand.then(|| conv("_expand_conv", "_bn0", [mid, cin, 1, 1], 1, false)).transpose()?;
        let depthwise = conv("_depthwise_conv", "_bn1", [mid, 1, k, k], spec.stride, true)?;
        let project = conv("_project_conv", "_bn2", [out, mid, 1, 1], 1, false)?;
        Ok(Self { spec, expand, depthwise, project, gate: None, sub_blocks: 1 })
    }

    /// Makes this block a routed one with `sub_blocks` slices.
    pub(crate) fn set_router(&mut self, gate: Tensor) {
        self.sub_blocks = gate.size()[0];
        self.gate = Some(gate);
    }

    pub(crate) fn fuse(&self) -> FusedBlock {
        FusedBlock {
            expand: self.expand.as_ref().map(ConvBn::fuse),
            depthwise: self.depthwise.fuse(),
            project: self.project.fuse(),
        }
    }

    /// All sub-blocks at once, as the dense block: `[batch, in, h, w] -> [batch, out, h', w']`.
    pub(crate) fn forward_full(&self, x: &Tensor, fused: &FusedBlock) -> Tensor {
        let hidden = match (&self.expand, &fused.expand) {
            (Some(expand), Some(weights)) => expand.forward(x, weights).relu6_(),
            _ => x.shallow_clone(),
        };
        let hidden = self.depthwise.forward(&hidden, &fused.depthwise).relu6_();
        self.residual(x, self.project.forward(&hidden, &fused.project))
    }

    /// Each image through the one sub-block its router chose.
    ///
    /// Values and gradients are those of computing every sub-block and masking. The sub-blocks that were not chosen
    /// matter only to the straight-through gradient of the router, which needs their outputs but no gradient through
    /// them: they run without autograd.
    pub(crate) fn forward_routed(
        &self,
        x: &Tensor,
        full_output: &Tensor,
        fused: &FusedBlock,
        gate: &Tensor,
    ) -> RoutedBlock {
        let pooled = x.mean_dim([2i64, 3].as_slice(), false, x.kind());
        let Routing { gate, choice } = route(&pooled, gate);
        let every = tch::no_grad(|| self.every_sub_block(x, fused));
        let weights = gate.view([-1, self.sub_blocks, 1, 1, 1]);
        // Value: the chosen output. Gradient: <upstream, sub-block k's output> to gate k.
        let selected = (&every * weights).sum_dim_intlist(1i64, false, every.kind());

        let detached = self.residual(&x.detach(), selected.shallow_clone());
        let gap = (detached - full_output.detach()).square().sum_dim_intlist(1i64, false, x.kind());
        let gap = (gap + 1e-12).sqrt().mean_dim([1i64, 2].as_slice(), false, x.kind()).sum(x.kind());

        let chosen = self.chosen_sub_blocks(x, &choice, fused);
        let output = self.residual(x, chosen + (&selected - selected.detach()));
        RoutedBlock { output, gap, choice }
    }

    /// The output of each sub-block, `[batch, K, out, h', w']`.
    fn every_sub_block(&self, x: &Tensor, fused: &FusedBlock) -> Tensor {
        let hidden = match (&self.expand, &fused.expand) {
            (Some(expand), Some(weights)) => expand.forward(x, weights).relu6_(),
            _ => x.shallow_clone(),
        };
        let hidden = self.depthwise.forward(&hidden, &fused.depthwise).relu6_();
        // [out, K*m] -> [K*out, m]: one grouped convolution projects every slice on its own.
        let columns = Tensor::cat(&fused.project.weight.chunk(self.sub_blocks, 1), 0);
        let bias = (&fused.project.bias / self.sub_blocks as f64).repeat([self.sub_blocks]);
        let every = self.project.convolve(&hidden, &columns, Some(&bias), self.sub_blocks);
        let size = every.size();
        every.view([size[0], self.sub_blocks, size[1] / self.sub_blocks, size[2], size[3]])
    }

    /// Each image's chosen sub-block with autograd, images grouped by sub-block: `[batch, out, h', w']`.
    fn chosen_sub_blocks(&self, x: &Tensor, choice: &Tensor, fused: &FusedBlock) -> Tensor {
        let order = choice.argsort(0, false);
        let counts: Vec<i64> =
            (0..self.sub_blocks).map(|k| choice.eq(k).sum(tch::Kind::Int64).int64_value(&[])).collect();
        let grouped = x.index_select(0, &order);
        let mut start = 0;
        let mut outputs = Vec::with_capacity(counts.len());
        for (k, &count) in counts.iter().enumerate() {
            if count > 0 {
                outputs.push(self.sub_block(&grouped.narrow(0, start, count), k as i64, fused));
            }
            start += count;
        }
        Tensor::cat(&outputs, 0).index_select(0, &order.argsort(0, false))
    }

    /// Sub-block `k` alone on `x` `[n, in, h, w]`, with its 1/K share of the last shift.
    pub(super) fn sub_block(&self, x: &Tensor, k: i64, fused: &FusedBlock) -> Tensor {
        let width = self.spec.expanded_channels as i64 / self.sub_blocks;
        let start = k * width;
        let hidden = match (&self.expand, &fused.expand) {
            (Some(expand), Some(weights)) => expand.forward_rows(x, weights, start, width).relu6_(),
            _ => x.narrow(1, start, width),
        };
        let hidden = self.depthwise.forward_rows(&hidden, &fused.depthwise, start, width).relu6_();
        let bias = &fused.project.bias / self.sub_blocks as f64;
        self.project.convolve(&hidden, &fused.project.weight.narrow(1, start, width), Some(&bias), 1)
    }

    pub(super) fn residual(&self, x: &Tensor, y: Tensor) -> Tensor {
        if self.spec.residual { y + x } else { y }
    }
}
