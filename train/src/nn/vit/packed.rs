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

    /// As [`attend`](Self::attend), for the first `count` tokens only; they read all tokens.
    pub(super) fn attend_first(&self, normed: &Tensor, count: i64) -> Tensor {
        let (batch, tokens, dim) = sizes(normed);
        let head = dim / self.heads;
        let part = |start: i64, len: i64| {
            (self.qkv.weight.narrow(0, start, len), self.qkv.bias.narrow(0, start, len))
        };
        let (weight, bias) = part(0, dim);
        let q = normed.narrow(1, 0, count).linear(&weight, Some(&bias));
        let q = q.view([batch, count, self.heads, head]).transpose(1, 2);
        let (weight, bias) = part(dim, 2 * dim);
        let kv = normed.linear(&weight, Some(&bias));
        let kv = kv.view([batch, tokens, 2, self.heads, head]).permute([2, 0, 3, 1, 4]);
        merge_heads(&scaled_dot_product(&q, &kv.get(0), &kv.get(1)))
    }

    /// The attention's projection of what [`attend`](Self::attend) read.
    pub(super) fn project(&self, read: &Tensor) -> Tensor {
        self.proj.forward(read)
    }

    pub(super) fn mlp(&self, normed: &Tensor) -> Tensor {
        self.fc2.forward(&self.fc1.forward(normed).gelu("none"))
    }
}

/// One block with all sub-blocks: `[batch, tokens, dim] -> [batch, tokens, dim]`; also the stream after the attention.
pub(super) fn full_block(layer: &Layer, packed: &Packed, x: &Tensor) -> (Tensor, Tensor) {
    let middle = x + packed.project(&packed.attend(&layer.norm1.forward(x)));
    let out = &middle + packed.mlp(&layer.norm2.forward(&middle));
    (middle, out)
}

/// As [`full_block`], but only the first `count` tokens of the result: all that is read after the last block.
pub(super) fn full_block_first(layer: &Layer, packed: &Packed, x: &Tensor, count: i64) -> Tensor {
    let read = packed.attend_first(&layer.norm1.forward(x), count);
    let middle = x.narrow(1, 0, count) + packed.project(&read);
    &middle + packed.mlp(&layer.norm2.forward(&middle))
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
