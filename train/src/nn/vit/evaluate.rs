//! A block in evaluation with less than all of its sub-blocks: only what is chosen is computed.

use tch::Tensor;

use super::layer::{Gates, Layer};
use super::packed::{Packed, full_block, merge_heads, scaled_dot_product};
use super::queries::{project_third, read_at, split_heads};
use crate::nn::Effort;
use crate::nn::router::Routing;

/// `[batch, tokens, dim] -> [batch, tokens, dim]`. A block that is not routed is dense.
pub(super) fn block(layer: &Layer, x: &Tensor, effort: Effort) -> Tensor {
    match (effort, &layer.gates) {
        (Effort::Routed, Some(gates)) => routed(layer, gates, x),
        (Effort::SubBlock(k), Some(_)) => sub_block(layer, x, k),
        _ => full_block(layer, &Packed::new(layer), x).out,
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
    let groups = routing.groups();
    let outputs: Vec<Tensor> = layer
        .attention
        .iter()
        .zip(groups.places())
        .map(|(sub, places)| {
            if places.numel() == 0 {
                return rows.narrow(0, 0, 0);
            }
            let keys = split_heads(&project_third(sub, normed, 1), heads);
            let values = split_heads(&project_third(sub, normed, 2), heads);
            sub.proj.forward(&read_at(sub, &rows.index_select(0, &places), &places, &keys, &values))
        })
        .collect();
    Tensor::cat(&outputs, 0).index_select(0, &groups.inverse).view([batch, tokens, dim])
}
