//! The routed stream through one block: the form that saves work, the official form, and evaluation.

use tch::Tensor;

use super::block::{Block, FusedBlock};
use crate::nn::Effort;
use crate::nn::router::{Groups, Routing, without_value};

/// What a routed pass through one block yields.
pub(super) struct RoutedBlock {
    /// `[batch, out, h, w]`
    pub(super) output: Tensor,
    /// L2 gap to the full stream over channels, averaged over positions, summed over the batch; its gradient reaches
    /// only the router. A constant 0 where it is not wanted.
    pub(super) gap: Tensor,
    /// Chosen sub-block per image, `[batch]`.
    pub(super) choice: Tensor,
}

/// Added to the squared gap before the root.
const TINY: f64 = 1e-12;

/// Each image through the one sub-block its router chose.
///
/// Values and gradients are those of [`masked`]. The sub-blocks that were not chosen matter only to the straight-through
/// gradient of the router, which needs their outputs but no gradient through them: they run without autograd, on the
/// images that did not choose them. The gap's gradient is known as soon as the streams are and enters the graph as
/// a constant. `full` is the full stream after the block; None where the gap is not wanted.
pub(super) fn fast(
    block: &Block,
    x: &Tensor,
    full: Option<&Tensor>,
    fused: &FusedBlock,
    gate: &Tensor,
) -> RoutedBlock {
    let pooled = pool(x);
    let routing = Routing::new(&pooled, gate);
    let groups = routing.groups();
    // Images in order of their sub-block from here on.
    let sorted = |t: &Tensor| t.index_select(0, &groups.order);
    let shared = sorted(&block.shared(x, fused));
    let chosen = chosen_sub_blocks(block, &shared, &groups, fused);
    let every = tch::no_grad(|| every_sub_block(block, &shared.detach(), &chosen, &groups, fused));
    let chosen = Tensor::cat(&chosen.into_iter().flatten().collect::<Vec<_>>(), 0);
    // Value 0; gradient to sub-block k's probability: <upstream, its output>.
    let teach = without_value(&sorted(&routing.soft)).unsqueeze(1).bmm(&every).view_as(&chosen);
    let added = (chosen + teach).index_select(0, &groups.inverse);
    let output = block.finish(x, added, fused);

    let gap = match full {
        None => Tensor::zeros([0i64; 0], (x.kind(), x.device())),
        Some(full) => {
            let (value, direction) = tch::no_grad(|| gap_and_direction(block, &output.detach(), full));
            let upstream = tch::no_grad(|| {
                let direction = sorted(&direction).flatten(1, -1).unsqueeze(2);
                every.bmm(&direction).squeeze_dim(2).index_select(0, &groups.inverse)
            });
            // The router sees its input as a constant.
            let soft = Routing::new(&pooled.detach(), gate).soft;
            value + without_value(&(soft * upstream).sum(None))
        }
    };
    RoutedBlock { output, gap, choice: routing.choice }
}

/// Each image's chosen sub-block with autograd, per sub-block; None where no image chose it.
fn chosen_sub_blocks(
    block: &Block,
    shared: &Tensor,
    groups: &Groups,
    fused: &FusedBlock,
) -> Vec<Option<Tensor>> {
    let mut start = 0;
    let run = |(k, &count): (usize, &i64)| {
        let images = shared.narrow(0, start, count);
        start += count;
        (count > 0).then(|| block.sub_block(&images, k as i64, fused))
    };
    groups.counts.iter().enumerate().map(run).collect()
}

/// Every sub-block's output for every image, `[batch, K, out * h * w]`, where the chosen ones are known already.
fn every_sub_block(
    block: &Block,
    shared: &Tensor,
    chosen: &[Option<Tensor>],
    groups: &Groups,
    fused: &FusedBlock,
) -> Tensor {
    let batch = shared.size()[0];
    let mut start = 0;
    let mut every = Vec::with_capacity(chosen.len());
    for (k, (chosen, &count)) in chosen.iter().zip(&groups.counts).enumerate() {
        let end = start + count;
        let others = [shared.narrow(0, 0, start), shared.narrow(0, end, batch - end)];
        let mut parts = Vec::with_capacity(3);
        if count < batch {
            let others = block.sub_block(&Tensor::cat(&others, 0), k as i64, fused);
            parts = others.split_with_sizes([start, batch - end], 0);
        }
        if let Some(chosen) = chosen {
            parts.insert(parts.len().min(1), chosen.detach());
        }
        every.push(Tensor::cat(&parts, 0).flatten(1, -1));
        start = end;
    }
    Tensor::stack(&every, 1)
}

/// The gap between the streams after a block, and its gradient with respect to the sum over sub-blocks.
fn gap_and_direction(block: &Block, routed: &Tensor, full: &Tensor) -> (Tensor, Tensor) {
    let apart = routed - full;
    let distance = (apart.square().sum_dim_intlist(1i64, true, None) + TINY).sqrt();
    let positions = (distance.size()[2] * distance.size()[3]) as f64;
    let mut direction = apart / (&distance * positions);
    if block.activate_sum {
        direction *= routed.greater(0.0);
    }
    (distance.sum(None) / positions, direction)
}

/// The official computation: every sub-block with autograd, times its gate.
pub(super) fn masked(
    block: &Block,
    x: &Tensor,
    full: Option<&Tensor>,
    fused: &FusedBlock,
    gate: &Tensor,
) -> RoutedBlock {
    let pooled = pool(x);
    let routing = Routing::new(&pooled, gate);
    let shared = block.shared(x, fused);
    let parts: Vec<Tensor> = (0..block.sub_blocks).map(|k| block.sub_block(&shared, k, fused)).collect();
    let output = block.finish(x, mask(&parts, &routing.gate()), fused);
    let gap = match full {
        None => Tensor::zeros([0i64; 0], (x.kind(), x.device())),
        Some(full) => {
            let constants: Vec<Tensor> = parts.iter().map(Tensor::detach).collect();
            let gate = Routing::new(&pooled.detach(), gate).gate();
            let branch = tch::no_grad(|| block.branch(&x.detach(), fused));
            let apart = block.finish_on(branch, mask(&constants, &gate)) - full.detach();
            let distance = (apart.square().sum_dim_intlist(1i64, false, None) + TINY).sqrt();
            distance.mean_dim([1i64, 2].as_slice(), false, None).sum(None)
        }
    };
    RoutedBlock { output, gap, choice: routing.choice }
}

/// Each output times its gate, summed.
fn mask(parts: &[Tensor], gate: &Tensor) -> Tensor {
    let gated = parts.iter().enumerate().map(|(k, part)| part * gate.select(1, k as i64).view([-1, 1, 1, 1]));
    // There is at least one sub-block.
    gated.reduce(|sum, part| sum + part).unwrap_or_default()
}

impl Block {
    /// The block in evaluation, on running statistics, with as much of it as `effort` says.
    pub(super) fn evaluate(&self, x: &Tensor, effort: Effort) -> Tensor {
        let fused = self.fuse();
        match (effort, &self.gate) {
            (Effort::Routed, Some(gate)) => {
                let groups = Routing::new(&pool(x), gate).groups();
                let shared = self.shared(x, &fused).index_select(0, &groups.order);
                let chosen = chosen_sub_blocks(self, &shared, &groups, &fused);
                let chosen = Tensor::cat(&chosen.into_iter().flatten().collect::<Vec<_>>(), 0);
                self.finish(x, chosen.index_select(0, &groups.inverse), &fused)
            }
            (Effort::SubBlock(k), Some(_)) => {
                let added = self.sub_block(&self.shared(x, &fused), k as i64, &fused);
                self.finish(x, added, &fused)
            }
            _ => self.same(x, &fused),
        }
    }
}

/// Averages over positions: `[batch, channels, h, w] -> [batch, channels]`.
pub(super) fn pool(x: &Tensor) -> Tensor {
    x.mean_dim([2i64, 3].as_slice(), false, x.kind())
}
