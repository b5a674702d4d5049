//! A block's sub-blocks joined into dense matrices, so that all of them run as one matrix product each.

use tch::Tensor;

use super::layer::{Layer, Linear, SubMlp};

/// The dense form of one block, made for one pass; gradients flow back into the sub-blocks' own tensors.
#[derive(Debug)]
pub(super) struct Packed {
    /// `[3 * dim, dim]`: the queries of all heads, then keys, then values; heads in order of sub-block.
    qkv: Linear,
    /// `[dim, dim]`, its bias the sum of the shares.
    proj: Linear,
    fc1: Linear,
    fc2: Linear,
    heads: i64,
}

impl Packed {
    pub(super) fn new(layer: &Layer) -> Self {
        let (attention, mlp) = (&layer.attention, &layer.mlp);
        Self {
            qkv: Linear {
                weight: interleave(attention.iter().map(|sub| &sub.qkv.weight)),
                bias: interleave(attention.iter().map(|sub| &sub.qkv.bias)),
            },
            proj: Linear {
                weight: join(attention.iter().map(|sub| &sub.proj.weight), 1),
                bias: total(attention.iter().map(|sub| &sub.proj.bias)),
            },
            fc1: Linear {
                weight: join(mlp.iter().map(|sub: &SubMlp| &sub.fc1.weight), 0),
                bias: join(mlp.iter().map(|sub| &sub.fc1.bias), 0),
            },
            fc2: Linear {
                weight: join(mlp.iter().map(|sub| &sub.fc2.weight), 1),
                bias: total(mlp.iter().map(|sub| &sub.fc2.bias)),
            },
            heads: layer.heads,
        }
    }

    /// What each head reads, before the projection: `[batch, tokens, dim] -> [batch, tokens, dim]`, where
    /// sub-block k owns columns `k * dim / K ..`.
    pub(super) fn attend(&self, normed: &Tensor) -> Tensor {
        let (batch, tokens, dim) = sizes(normed);
        let qkv = normed.linear(&self.qkv.weight, Some(&self.qkv.bias));
        let qkv = qkv.view([batch, tokens, 3, self.heads, dim / self.heads]).permute([2, 0, 3, 1, 4]);
        merge_heads(&scaled_dot_product(&qkv.get(0), &qkv.get(1), &qkv.get(2)))
    }

    /// Keys and values of all tokens, `[batch, heads, tokens, head]` each; heads in order of sub-block.
    pub(super) fn keys_values(&self, normed: &Tensor) -> (Tensor, Tensor) {
        let (batch, tokens, dim) = sizes(normed);
        let (weight, bias) = self.rows(dim, 2 * dim);
        let kv = normed.linear(&weight, Some(&bias));
        let kv = kv.view([batch, tokens, 2, self.heads, dim / self.heads]).permute([2, 0, 3, 1, 4]);
        (kv.get(0), kv.get(1))
    }

    /// What each head reads for `normed` `[batch, some, dim]` from the keys and values of all tokens.
    fn attend_to(&self, normed: &Tensor, keys: &Tensor, values: &Tensor) -> Tensor {
        let (batch, tokens, dim) = sizes(normed);
        let (weight, bias) = self.rows(0, dim);
        let q = normed.linear(&weight, Some(&bias));
        let q = q.view([batch, tokens, self.heads, dim / self.heads]).transpose(1, 2);
        merge_heads(&scaled_dot_product(&q, keys, values))
    }

    /// Rows of the weight and bias of queries, keys and values.
    fn rows(&self, start: i64, len: i64) -> (Tensor, Tensor) {
        (self.qkv.weight.narrow(0, start, len), self.qkv.bias.narrow(0, start, len))
    }

    /// The attention's projection of what its heads read.
    fn project(&self, read: &Tensor) -> Tensor {
        self.proj.forward(read)
    }

    fn mlp(&self, normed: &Tensor) -> Tensor {
        self.fc2.forward(&self.fc1.forward(normed).gelu("none"))
    }
}

/// One block with all sub-blocks, `[batch, tokens, dim]` each.
pub(super) struct FullBlock {
    /// What the heads read; see [`Packed::attend`].
    pub(super) read: Tensor,
    /// The stream after the attention.
    pub(super) middle: Tensor,
    /// The stream after the MLP.
    pub(super) out: Tensor,
}

pub(super) fn full_block(layer: &Layer, packed: &Packed, x: &Tensor) -> FullBlock {
    let read = packed.attend(&layer.norm1.forward(x));
    let (middle, out) = after_reading(layer, packed, x, &read);
    FullBlock { read, middle, out }
}

/// Only the first `count` tokens of the result: all that is read after the last block. With `others`, also the streams
/// after attention and MLP of all tokens, as constants.
pub(super) fn full_block_first(
    layer: &Layer,
    packed: &Packed,
    x: &Tensor,
    count: i64,
    others: bool,
) -> (Tensor, Option<[Tensor; 2]>) {
    let normed = layer.norm1.forward(x);
    let (keys, values) = packed.keys_values(&normed);
    let read = packed.attend_to(&normed.narrow(1, 0, count), &keys, &values);
    let out = after_reading(layer, packed, &x.narrow(1, 0, count), &read).1;
    let constants = || {
        let read = packed.attend_to(&normed.detach(), &keys.detach(), &values.detach());
        let (middle, out) = after_reading(layer, packed, &x.detach(), &read);
        [middle, out]
    };
    (out, others.then(|| tch::no_grad(constants)))
}

/// The stream after attention and MLP.
fn after_reading(layer: &Layer, packed: &Packed, x: &Tensor, read: &Tensor) -> (Tensor, Tensor) {
    let middle = x + packed.project(read);
    let out = &middle + packed.mlp(&layer.norm2.forward(&middle));
    (middle, out)
}

fn sizes(x: &Tensor) -> (i64, i64, i64) {
    let size = x.size();
    (size[0], size[1], size[2])
}

pub(super) fn scaled_dot_product(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    Tensor::scaled_dot_product_attention(q, k, v, None::<&Tensor>, 0.0, false, None, false)
}

/// `[batch, heads, tokens, head] -> [batch, tokens, heads * head]`
pub(super) fn merge_heads(x: &Tensor) -> Tensor {
    let size = x.size();
    x.transpose(1, 2).reshape([size[0], size[2], size[1] * size[3]])
}

/// Queries of every sub-block, then keys, then values, from one `[3 * rows, …]` tensor per sub-block.
fn interleave<'a>(parts: impl Iterator<Item = &'a Tensor>) -> Tensor {
    let thirds: Vec<Vec<Tensor>> = parts.map(|part| part.chunk(3, 0)).collect();
    let ordered: Vec<&Tensor> =
        (0..3).flat_map(|third| thirds.iter().map(move |chunks| &chunks[third])).collect();
    Tensor::cat(&ordered, 0)
}

fn join<'a>(parts: impl Iterator<Item = &'a Tensor>, dim: i64) -> Tensor {
    Tensor::cat(&parts.collect::<Vec<_>>(), dim)
}

fn total<'a>(parts: impl Iterator<Item = &'a Tensor>) -> Tensor {
    Tensor::stack(&parts.collect::<Vec<_>>(), 0).sum_dim_intlist(0i64, false, None)
}
