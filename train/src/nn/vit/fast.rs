//! The routed stream that saves work: same values and gradients as [`super::masked`], less computed.
//!
//! What the official gradients need: every sub-block's output for every token, because the router's straight-through
//! gradient is the upstream gradient times each of them; but a gradient *through* a sub-block only where it was
//! chosen. So unchosen sub-blocks run without autograd, and chosen ones on tokens grouped by sub-block. The gaps'
//! gradients are linear in what is known as soon as the streams are (a unit vector per token), so they are worked out
//! on the spot from the forward pass's own activations, and enter the graph as constants.

use tch::Tensor;

use super::layer::{Gates, Layer, SubMlp};
use super::packed::{Packed, full_block, full_block_first};
use super::{LayerGap, LayerOutput};
use crate::nn::router::{Groups, Routing, without_value};

/// Keeps the direction of a vanishing gap finite.
const TINY: f64 = 1e-30;

/// How much of a layer is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Whether the gaps are.
    pub(super) gaps: bool,
    /// The number of tokens that are read after the last block; None elsewhere.
    pub(super) first: Option<i64>,
}

/// One block on both streams, `[batch, tokens, dim]` each; after the last block the full stream has only the tokens
/// that are read.
pub(super) fn forward(
    layer: &Layer,
    gates: &Gates,
    full: &Tensor,
    routed: &Tensor,
    wanted: Wanted,
) -> LayerOutput {
    let packed = Packed::new(layer);
    let (full_out, targets) = match wanted.first {
        None => {
            let (middle, out) = full_block(layer, &packed, full);
            let targets = wanted.gaps.then(|| (flat(&middle.detach()), flat(&out.detach())));
            (out, targets)
        }
        Some(count) => {
            // Tokens that nothing reads have no gradient; the gaps need their values.
            let targets = wanted.gaps.then(|| tch::no_grad(|| full_block(layer, &packed, &full.detach())));
            let out = full_block_first(layer, &packed, full, count);
            (out, targets.map(|(middle, out)| (flat(&middle), flat(&out))))
        }
    };
    let size = routed.size();
    let attention = route_attention(layer, gates, &packed, routed, targets.as_ref().map(|t| &t.0));
    let mlp = route_mlp(layer, gates, &attention.output, targets.as_ref().map(|t| &t.1));
    let choices = [attention.choice, mlp.choice].map(|choice| choice.view([size[0], size[1]]));
    LayerOutput {
        full: full_out,
        routed: mlp.output.view(size.as_slice()),
        gap: LayerGap::new(attention.gap, mlp.gap),
        routes: choices,
    }
}

/// One routed half of a block.
struct Half {
    /// The stream after it, `[batch * tokens, dim]`.
    output: Tensor,
    /// Gap to the full stream; a constant 0 where not wanted.
    gap: Tensor,
    /// Chosen sub-block, `[batch * tokens]`.
    choice: Tensor,
}

fn route_attention(
    layer: &Layer,
    gates: &Gates,
    packed: &Packed,
    stream: &Tensor,
    target: Option<&Tensor>,
) -> Half {
    let normed = layer.norm1.forward(stream);
    let rows = flat(&normed);
    let routing = Routing::new(&rows, &gates.attention);
    let groups = routing.groups();
    let Routing { soft, choice } = routing;
    // Rows (token, sub-block): what each sub-block's heads read for each token.
    let read = packed.attend(&normed);
    let k = layer.attention.len() as i64;
    let width = read.size()[2] / k;
    let every = tch::no_grad(|| project_all(layer, &read.detach().view([-1, k, width])));

    let chosen_rows = &groups.order * k + choice.index_select(0, &groups.order);
    let chosen = read.view([-1, width]).index_select(0, &chosen_rows);
    let segments = chosen.split_with_sizes(groups.counts.as_slice(), 0);
    let outputs: Vec<Tensor> =
        layer.attention.iter().zip(&segments).map(|(sub, rows)| sub.proj.forward(rows)).collect();
    let chosen = Tensor::cat(&outputs, 0).index_select(0, &groups.inverse);
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

fn route_mlp(layer: &Layer, gates: &Gates, stream: &Tensor, target: Option<&Tensor>) -> Half {
    let routing = Routing::new(stream, &gates.mlp);
    let groups = routing.groups();
    // From here to the end tokens are in order of their sub-block.
    let normed = layer.norm2.forward(stream).index_select(0, &groups.order);
    let soft = routing.soft.index_select(0, &groups.order);
    let chosen = run_chosen(layer, &normed, &groups.counts);
    let every = tch::no_grad(|| mlp_all(layer, &normed.detach(), &chosen, &groups.counts));
    let outputs: Vec<&Tensor> = chosen.iter().map(|c| &c.output).collect();
    let added = Tensor::cat(&outputs, 0) + straight_through(&soft, &every);
    let output = stream + added.index_select(0, &groups.inverse);

    let gap = target.map_or_else(|| zero(stream), |target| mlp_gap(layer, &groups, &soft, &output, target));
    Half { output, gap, choice: routing.choice }
}

/// The gap of the official code, which runs the MLPs a second time on the stream after them, held constant: through the
/// same sub-blocks, with the same gate `soft` (in order of sub-block).
fn mlp_gap(layer: &Layer, groups: &Groups, soft: &Tensor, output: &Tensor, target: &Tensor) -> Tensor {
    let sorted = |x: &Tensor| x.index_select(0, &groups.order);
    let (value, upstream, gradients) = tch::no_grad(|| {
        let stream = sorted(&output.detach());
        let normed = layer.norm2.forward(&stream);
        let chosen = run_chosen(layer, &normed, &groups.counts);
        let added = Tensor::cat(&chosen.iter().map(|c| &c.output).collect::<Vec<_>>(), 0);
        let gap = Gap::new(&(&stream + added), &sorted(target));
        let upstream = inner(&mlp_all(layer, &normed, &chosen, &groups.counts), &gap.direction);
        let standard = layer.norm2.standardize(&stream);
        let gradients = mlp_gradients(layer, &chosen, &standard, &gap.direction, &groups.counts);
        (gap.value, upstream, gradients)
    });
    let terms: Vec<Tensor> = gradients.iter().map(|(gradient, parameter)| dot(gradient, parameter)).collect();
    let linear = Tensor::stack(&terms, 0).sum(None) + (soft * upstream).sum(None);
    value + without_value(&linear)
}

/// A sub-block's MLP on the tokens that chose it.
struct Chosen {
    input: Tensor,
    /// Before the activation.
    before: Tensor,
    hidden: Tensor,
    output: Tensor,
}

/// Each sub-block on its own segment of `normed`, which is in order of sub-block.
fn run_chosen(layer: &Layer, normed: &Tensor, counts: &[i64]) -> Vec<Chosen> {
    let run = |(sub, input): (&SubMlp, Tensor)| {
        let before = sub.fc1.forward(&input);
        let hidden = before.gelu("none");
        let output = sub.fc2.forward(&hidden);
        Chosen { input, before, hidden, output }
    };
    layer.mlp.iter().zip(normed.split_with_sizes(counts, 0)).map(run).collect()
}

/// Gradients of the chosen sub-blocks and of the normalisation before them, each with its parameter, where
/// `direction` is the upstream gradient of their outputs and `standard` the normalisation's standardised input, both
/// `[batch * tokens, dim]` in order of sub-block.
fn mlp_gradients<'a>(
    layer: &'a Layer,
    chosen: &[Chosen],
    standard: &Tensor,
    direction: &Tensor,
    counts: &[i64],
) -> Vec<(Tensor, &'a Tensor)> {
    let column_sums = |x: &Tensor| x.sum_dim_intlist(0i64, false, None);
    let mut gradients = Vec::new();
    let mut inputs = Vec::new();
    for ((sub, chosen), upstream) in layer.mlp.iter().zip(chosen).zip(direction.split_with_sizes(counts, 0)) {
        let before = chosen.before.gelu_backward(&upstream.matmul(&sub.fc2.weight), "none");
        gradients.push((upstream.transpose(0, 1).matmul(&chosen.hidden), &sub.fc2.weight));
        gradients.push((column_sums(&upstream), &sub.fc2.bias));
        gradients.push((before.transpose(0, 1).matmul(&chosen.input), &sub.fc1.weight));
        gradients.push((column_sums(&before), &sub.fc1.bias));
        inputs.push(before.matmul(&sub.fc1.weight));
    }
    let input = Tensor::cat(&inputs, 0);
    gradients.push((column_sums(&(&input * standard)), &layer.norm2.weight));
    gradients.push((column_sums(&input), &layer.norm2.bias));
    gradients
}

/// Each sub-block's projection of each token's read, `[tokens, K, width] -> [K, tokens, dim]`.
fn project_all(layer: &Layer, read: &Tensor) -> Tensor {
    let outputs: Vec<Tensor> = layer
        .attention
        .iter()
        .enumerate()
        .map(|(k, sub)| sub.proj.forward(&read.select(1, k as i64)))
        .collect();
    Tensor::stack(&outputs, 0)
}

/// Each sub-block's output for each token, `[K, tokens, dim]`, where the chosen ones are known already. Tokens are in
/// order of sub-block.
fn mlp_all(layer: &Layer, normed: &Tensor, chosen: &[Chosen], counts: &[i64]) -> Tensor {
    let tokens = normed.size()[0];
    let mut start = 0;
    let mut every = Vec::with_capacity(chosen.len());
    for ((sub, chosen), count) in layer.mlp.iter().zip(chosen).zip(counts) {
        let end = start + count;
        let before = sub.forward(&normed.narrow(0, 0, start));
        let after = sub.forward(&normed.narrow(0, end, tokens - end));
        every.push(Tensor::cat(&[before, chosen.output.detach(), after], 0));
        start = end;
    }
    Tensor::stack(&every, 0)
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
