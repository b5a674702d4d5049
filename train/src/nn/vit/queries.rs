//! Attention with the queries of some tokens over the keys and values of all: what routing saves.

use tch::{Kind, Tensor};

use super::layer::SubAttention;
use super::packed::{merge_heads, scaled_dot_product};

/// What the heads of one sub-block read for some tokens: `[count, dim] -> [count, dim / K]`.
///
/// `places` are those tokens' rows of the batch's `batch * tokens`, in ascending order; `keys` and `values` the sub-block's for all
/// tokens, `[batch, heads, tokens, head]`.
pub(super) fn read_at(
    sub: &SubAttention,
    some: &Tensor,
    places: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Tensor {
    let queries = project_third(sub, some, 0);
    if places.numel() == 0 {
        return queries;
    }
    let size = keys.size();
    let slots = Slots::new(places, size[0], size[2]);
    let read = scaled_dot_product(&split_heads(&slots.spread(&queries), size[1]), keys, values);
    slots.collect(&merge_heads(&read))
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
pub(super) fn project_third(sub: &SubAttention, x: &Tensor, third: i64) -> Tensor {
    let rows = sub.qkv.weight.size()[0] / 3;
    let (weight, bias) =
        (sub.qkv.weight.narrow(0, third * rows, rows), sub.qkv.bias.narrow(0, third * rows, rows));
    x.linear(&weight, Some(&bias))
}

/// `[batch, tokens, heads * head] -> [batch, heads, tokens, head]`
pub(super) fn split_heads(x: &Tensor, heads: i64) -> Tensor {
    let size = x.size();
    x.view([size[0], size[1], heads, size[2] / heads]).transpose(1, 2)
}
