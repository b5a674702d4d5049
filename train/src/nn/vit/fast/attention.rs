//! The routed half of an attention.

use tch::Tensor;

use super::super::layer::{Gates, Layer, SubAttention};
use super::super::packed::Packed;
use super::super::queries::read_at;
use super::{Gap, Half, dot, flat, inner, straight_through, three, zero};
use crate::nn::router::{Groups, Routing, without_value};

/// `stream` is `[batch, tokens, dim]`. `read` is what each head reads for each token (see [`Packed::attend`]) where the full
/// stream has worked that out of the same tokens; `target` the full stream after its attention, `[batch * tokens, dim]`.
pub(super) fn route_attention(
    layer: &Layer,
    gates: &Gates,
    packed: &Packed,
    stream: &Tensor,
    read: Option<&Tensor>,
    target: Option<&Tensor>,
) -> Half {
    let normed = layer.norm1.forward(stream);
    let rows = flat(&normed);
    let routing = Routing::new(&rows, &gates.attention);
    let groups = routing.groups();
    let Outputs { chosen, every } = match read {
        Some(read) => Outputs::of_read(layer, read, &groups),
        None => Outputs::of_tokens(layer, packed, &normed, &groups),
    };
    let Routing { soft, choice } = routing;
    let output = flat(stream) + chosen + straight_through(&soft, &every);

    let gap = target.map_or_else(
        || zero(stream),
        |target| {
            let (value, gradient) = tch::no_grad(|| {
                let gap = Gap::new(&output, target);
                // The router sees its input as a constant: its gradient is all there is.
                let soft = soft.detach();
                let upstream = inner(&every, &gap.direction);
                let logits = &soft * (&upstream - (&soft * &upstream).sum_dim_intlist(1i64, true, None));
                (gap.value, logits.transpose(0, 1).matmul(&rows.detach()))
            });
            value + without_value(&dot(&gradient, &gates.attention))
        },
    );
    Half { output, gap, choice }
}

/// What the sub-blocks make of the tokens.
struct Outputs {
    /// Of each token's own sub-block, with gradient: `[batch * tokens, dim]`.
    chosen: Tensor,
    /// Of every sub-block, as constants: `[K, batch * tokens, dim]`.
    every: Tensor,
}

impl Outputs {
    /// From what every sub-block's heads read for each token, `[batch, tokens, dim]`.
    fn of_read(layer: &Layer, read: &Tensor, groups: &Groups) -> Self {
        let parts = flat(read).chunk(layer.attention.len() as i64, 1);
        let subs = layer.attention.iter().zip(&parts);
        let every: Vec<Tensor> =
            tch::no_grad(|| subs.clone().map(|(sub, part)| sub.proj.forward(&part.detach())).collect());
        let chosen: Vec<Tensor> = subs
            .zip(groups.places())
            .map(|((sub, part), places)| sub.proj.forward(&part.index_select(0, &places)))
            .collect();
        let chosen = Tensor::cat(&chosen, 0).index_select(0, &groups.inverse);
        Self { chosen, every: Tensor::stack(&every, 0) }
    }

    /// From `[batch, tokens, dim]`: queries with gradient of the chosen sub-block only, over the keys and values of all
    /// tokens.
    fn of_tokens(layer: &Layer, packed: &Packed, normed: &Tensor, groups: &Groups) -> Self {
        let k = layer.attention.len() as i64;
        let [batch, tokens, dim] = three(normed);
        let (keys, values) = packed.keys_values(normed);
        let (keys, values) = (keys.chunk(k, 1), values.chunk(k, 1));
        let rows = flat(normed);
        let every = Tensor::empty([k, batch * tokens, dim], (normed.kind(), normed.device()));
        let sorted = rows.index_select(0, &groups.order).split_with_sizes(groups.counts.as_slice(), 0);
        let mut outputs = Vec::with_capacity(layer.attention.len());
        for (index, places) in groups.places().iter().enumerate() {
            let sub = &layer.attention[index];
            let run =
                |sub: &SubAttention, tokens: &Tensor, places: &Tensor, keys: &Tensor, values: &Tensor| {
                    sub.proj.forward(&read_at(sub, tokens, places, keys, values))
                };
            let chosen = run(sub, &sorted[index], places, &keys[index], &values[index]);
            tch::no_grad(|| {
                let others = groups.others(index);
                let tokens = rows.detach().index_select(0, &others);
                let output = run(sub, &tokens, &others, &keys[index].detach(), &values[index].detach());
                let mut every = every.select(0, index as i64);
                let _ = every.index_copy_(0, places, &chosen.detach());
                let _ = every.index_copy_(0, &others, &output);
            });
            outputs.push(chosen);
        }
        Self { chosen: Tensor::cat(&outputs, 0).index_select(0, &groups.inverse), every }
    }
}
