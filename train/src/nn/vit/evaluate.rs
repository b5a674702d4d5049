//! A block in evaluation with less than all of its sub-blocks: only what is chosen is computed.

use tch::{Kind, Tensor};

use super::layer::{Gates, Layer, SubAttention};
use super::packed::{Packed, full_block, merge_heads, scaled_dot_product};
use crate::nn::Effort;
use crate::nn::router::{Groups, Routing};

/// `[batch, tokens, dim] -> [batch, tokens, dim]`. A block that is not routed is dense.
pub(super) fn block(layer: &Layer, x: &Tensor, effort: Effort) -> Tensor {
    match (effort, &layer.gates) {
        (Effort::Routed, Some(gates)) => routed(layer, gates, x),
        (Effort::SubBlock(k), Some(_)) => sub_block(layer, x, k),
        _ => full_block(layer, &Packed::new(layer), x).1,
    }
}

/// Sub-block `k` alone.
fn sub_block(layer: &Layer, x: &Tensor, k: usize) -> Tensor {
    let heads = layer.heads / layer.attention.len() as i64;
    let sub = &layer.attention[k];
    let normed = layer.norm1.forward(x);
    let [q, key, value] = [0, 1, 2].map(|third| split_heads(&project_third(sub, &normed, third), heads));
    let read = merge_heads(&scaled_dot_product(&q, &key, &value));
    let middle = x + sub.proj.forward(&read);
    &middle + layer.mlp[k].forward(&layer.norm2.forward(&middle))
}

fn routed(layer: &Layer, gates: &Gates, x: &Tensor) -> Tensor {
    let size = x.size();
    let middle = x + routed_attention(layer, gates, &layer.norm1.forward(x));
    let rows = middle.view([-1, size[2]]);
    let groups = Routing::new(&rows, &gates.mlp).groups();
    let sorted = layer.norm2.forward(&rows).index_select(0, &groups.order);
    let segments = sorted.split_with_sizes(groups.counts.as_slice(), 0);
    let outputs: Vec<Tensor> =
        layer.mlp.iter().zip(&segments).map(|(sub, tokens)| sub.forward(tokens)).collect();
    middle + Tensor::cat(&outputs, 0).index_select(0, &groups.inverse).view(size.as_slice())
}

/// Each token's queries of its own sub-block only, over the keys and values of all tokens.
fn routed_attention(layer: &Layer, gates: &Gates, normed: &Tensor) -> Tensor {
    let size = normed.size();
    let (batch, tokens, dim) = (size[0], size[1], size[2]);
    let heads = layer.heads / layer.attention.len() as i64;
    let rows = normed.reshape([-1, dim]);
    let routing = Routing::new(&rows, &gates.attention);
    let Groups { order, inverse, counts } = routing.groups();
    let outputs: Vec<Tensor> = layer
        .attention
        .iter()
        .zip(order.split_with_sizes(counts.as_slice(), 0))
        .map(|(sub, places)| {
            if places.numel() == 0 {
                return rows.narrow(0, 0, 0);
            }
            let queries = project_third(sub, &rows.index_select(0, &places), 0);
            let slots = Slots::new(&places, batch, tokens);
            let key = split_heads(&project_third(sub, normed, 1), heads);
            let value = split_heads(&project_third(sub, normed, 2), heads);
            let read = scaled_dot_product(&split_heads(&slots.spread(&queries), heads), &key, &value);
            sub.proj.forward(&slots.collect(&merge_heads(&read)))
        })
        .collect();
    Tensor::cat(&outputs, 0).index_select(0, &inverse).view([batch, tokens, dim])
}

/// Where the tokens of one sub-block lie in a batch that has as many rows per image as its fullest image needs.
struct Slots {
    /// Per token, its row among `batch * longest`.
    rows: Tensor,
    batch: i64,
    longest: i64,
}

impl Slots {
    /// For tokens at `places` of `batch * tokens`, in ascending order.
    fn new(places: &Tensor, batch: i64, tokens: i64) -> Self {
        let image = places.divide_scalar_mode(tokens, "floor");
        let counts = image.bincount(None::<&Tensor>, batch);
        let longest = counts.max().int64_value(&[]);
        let starts = counts.cumsum(0, Kind::Int64) - &counts;
        let positions = Tensor::arange(places.size()[0], (Kind::Int64, places.device()));
        let within = positions - starts.index_select(0, &image);
        Self { rows: image * longest + within, batch, longest }
    }

    /// `[count, width] -> [batch, longest, width]`; rows that no token has are zero.
    fn spread(&self, tokens: &Tensor) -> Tensor {
        let width = tokens.size()[1];
        let empty = Tensor::zeros([self.batch * self.longest, width], (tokens.kind(), tokens.device()));
        empty.index_copy(0, &self.rows, tokens).view([self.batch, self.longest, width])
    }

    /// `[batch, longest, width] -> [count, width]`
    fn collect(&self, rows: &Tensor) -> Tensor {
        let width = rows.size()[2];
        rows.reshape([-1, width]).index_select(0, &self.rows)
    }
}

/// Queries (0), keys (1) or values (2) of one sub-block.
fn project_third(sub: &SubAttention, x: &Tensor, third: i64) -> Tensor {
    let rows = sub.qkv.weight.size()[0] / 3;
    let (weight, bias) =
        (sub.qkv.weight.narrow(0, third * rows, rows), sub.qkv.bias.narrow(0, third * rows, rows));
    x.linear(&weight, Some(&bias))
}

/// `[batch, tokens, heads * head] -> [batch, heads, tokens, head]`
fn split_heads(x: &Tensor, heads: i64) -> Tensor {
    let size = x.size();
    x.view([size[0], size[1], heads, size[2] / heads]).transpose(1, 2)
}
