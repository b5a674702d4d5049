//! The routed stream that saves work: same values and gradients as [`super::masked`], less computed.
//!
//! What the official gradients need: every sub-block's output for every token, because the router's straight-through
//! gradient is the upstream gradient times each of them; but a gradient *through* a sub-block only where it was
//! chosen. So unchosen sub-blocks run without autograd, and chosen ones on tokens grouped by sub-block. The gaps'
//! gradients are linear in what is known as soon as the streams are (a unit vector per token), so they are worked out
//! on the spot from the forward pass's own activations, and enter the graph as constants. Up to the first router there is
//! one stream, whose attention reads once for both; after the last block only the tokens that are read have gradients.

mod attention;
mod mlp;

use tch::Tensor;

use self::attention::route_attention;
use self::mlp::{Stream, route_mlp};
use super::layer::{Gates, Layer};
use super::packed::{Packed, full_block, full_block_first};
use super::{LayerGap, LayerOutput};
use crate::nn::router::without_value;

/// Keeps the direction of a vanishing gap finite.
const TINY: f64 = 1e-30;

/// How much of a layer is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Whether the gaps are.
    pub(super) gaps: bool,
    /// The number of tokens that are read after the last block; None elsewhere.
    pub(super) first: Option<i64>,
    /// Whether both streams are one so far.
    pub(super) one_stream: bool,
}

/// One block on both streams, `[batch, tokens, dim]` each; after the last block they have only the tokens that are read.
pub(super) fn forward(
    layer: &Layer,
    gates: &Gates,
    full: &Tensor,
    routed: &Tensor,
    wanted: Wanted,
) -> LayerOutput {
    let packed = Packed::new(layer);
    let (full_out, read, targets) = match wanted.first {
        None => {
            let block = full_block(layer, &packed, full);
            let targets = wanted.gaps.then(|| [flat(&block.middle.detach()), flat(&block.out.detach())]);
            (block.out, wanted.one_stream.then_some(block.read), targets)
        }
        Some(count) => {
            let (out, targets) = full_block_first(layer, &packed, full, count, wanted.gaps);
            (out, None, targets.map(|targets| targets.map(|target| flat(&target))))
        }
    };
    let [batch, tokens, dim] = three(routed);
    let [middle, target] = targets.map_or([None, None], |targets| targets.map(Some));
    let attention = route_attention(layer, gates, &packed, routed, read.as_ref(), middle.as_ref());
    let stream = Stream { rows: &attention.output, batch, first: wanted.first };
    let mlp = route_mlp(layer, gates, &stream, target.as_ref());
    LayerOutput {
        full: full_out,
        routed: mlp.output.view([batch, -1, dim]),
        gap: LayerGap::new(attention.gap, mlp.gap),
        routes: [attention.choice, mlp.choice].map(|choice| choice.view([batch, tokens])),
    }
}

/// One routed half of a block.
struct Half {
    /// The stream after it, `[rows, dim]`: of all tokens, or of those that are read after the last block.
    output: Tensor,
    /// Gap to the full stream; a constant 0 where not wanted.
    gap: Tensor,
    /// Chosen sub-block, `[batch * tokens]`.
    choice: Tensor,
}

/// Zero in value; its gradient to `soft` `[tokens, K]` is the upstream gradient times each sub-block's output in
/// `every` `[K, tokens, dim]`.
fn straight_through(soft: &Tensor, every: &Tensor) -> Tensor {
    without_value(soft).unsqueeze(1).bmm(&every.transpose(0, 1)).squeeze_dim(1)
}

/// The inner product of each token's `direction` with each sub-block's output: `[tokens, K]`.
fn inner(every: &Tensor, direction: &Tensor) -> Tensor {
    every.transpose(0, 1).bmm(&direction.unsqueeze(2)).squeeze_dim(2)
}

/// Distance between the streams, summed over tokens, and its gradient.
struct Gap {
    value: Tensor,
    /// Unit vectors `[batch * tokens, dim]`.
    direction: Tensor,
}

impl Gap {
    fn new(routed: &Tensor, full: &Tensor) -> Self {
        let apart = routed - full;
        let distance = apart.square().sum_dim_intlist(1i64, true, None).sqrt();
        Self { value: distance.sum(None), direction: apart / distance.clamp_min(TINY) }
    }
}

fn three(x: &Tensor) -> [i64; 3] {
    let size = x.size();
    [size[0], size[1], size[2]]
}

/// `[batch, tokens, dim] -> [batch * tokens, dim]`
fn flat(x: &Tensor) -> Tensor {
    let size = x.size();
    x.reshape([-1, size[size.len() - 1]])
}

fn dot(a: &Tensor, b: &Tensor) -> Tensor {
    a.reshape(-1).dot(&b.reshape(-1))
}

fn zero(like: &Tensor) -> Tensor {
    Tensor::zeros([0i64; 0], (like.kind(), like.device()))
}
