//! The routed half of an MLP.

use tch::Tensor;

use super::super::layer::{Gates, Layer, SubMlp};
use super::{Gap, Half, dot, inner, straight_through, zero};
use crate::nn::router::{Groups, Routing, without_value};

/// The routed stream before its MLP.
pub(super) struct Stream<'a> {
    /// `[batch * tokens, dim]`
    pub(super) rows: &'a Tensor,
    pub(super) batch: i64,
    /// The number of tokens that are read after the last block; None elsewhere.
    pub(super) first: Option<i64>,
}

impl Stream<'_> {
    /// `[batch * tokens, …] -> [batch * count, …]`: the first `count` tokens of each image.
    fn narrow(&self, rows: &Tensor, count: i64) -> Tensor {
        let width: i64 = rows.size()[1..].iter().product();
        let first = rows.view([self.batch, -1, width]).narrow(1, 0, count);
        let mut size = rows.size();
        size[0] = self.batch * count;
        first.reshape(size)
    }
}

/// `target` is the full stream after its MLP, `[batch * tokens, dim]`.
pub(super) fn route_mlp(layer: &Layer, gates: &Gates, stream: &Stream<'_>, target: Option<&Tensor>) -> Half {
    let routing = Routing::new(stream.rows, &gates.mlp);
    let groups = routing.groups();
    let gap = |output: &Tensor| {
        target.map_or_else(
            || zero(stream.rows),
            |target| mlp_gap(layer, &groups, &routing.soft.index_select(0, &groups.order), output, target),
        )
    };
    let Some(count) = stream.first else {
        let output = run(layer, stream.rows, &routing.soft, &groups);
        return Half { gap: gap(&output), output, choice: routing.choice };
    };
    // Nothing reads the other tokens after the last block: the gap needs their values, and that is all.
    let first =
        Routing { soft: stream.narrow(&routing.soft, count), choice: stream.narrow(&routing.choice, count) };
    let output = run(layer, &stream.narrow(stream.rows, count), &first.soft, &first.groups());
    let gap = match target {
        Some(_) => gap(&tch::no_grad(|| values(layer, &stream.rows.detach(), &groups))),
        None => zero(stream.rows),
    };
    Half { output, gap, choice: routing.choice }
}

/// The stream after the MLP, `[rows, dim]`, with all its gradients.
fn run(layer: &Layer, stream: &Tensor, soft: &Tensor, groups: &Groups) -> Tensor {
    // From here to the end tokens are in order of their sub-block.
    let normed = layer.norm2.forward(stream).index_select(0, &groups.order);
    let soft = soft.index_select(0, &groups.order);
    let chosen = run_chosen(layer, &normed, &groups.counts);
    let every = tch::no_grad(|| mlp_all(layer, &normed.detach(), &chosen, &groups.counts));
    let added = outputs(&chosen) + straight_through(&soft, &every);
    stream + added.index_select(0, &groups.inverse)
}

/// The stream after the MLP, `[rows, dim]`, without gradients.
fn values(layer: &Layer, stream: &Tensor, groups: &Groups) -> Tensor {
    let normed = layer.norm2.forward(stream).index_select(0, &groups.order);
    stream + outputs(&run_chosen(layer, &normed, &groups.counts)).index_select(0, &groups.inverse)
}

/// The gap of the official code, which runs the MLPs a second time on the stream after them, held constant: through the
/// same sub-blocks, with the same gate `soft` (in order of sub-block).
fn mlp_gap(layer: &Layer, groups: &Groups, soft: &Tensor, output: &Tensor, target: &Tensor) -> Tensor {
    let sorted = |x: &Tensor| x.index_select(0, &groups.order);
    let (value, upstream, gradients) = tch::no_grad(|| {
        let stream = sorted(&output.detach());
        let normed = layer.norm2.forward(&stream);
        let chosen = run_chosen(layer, &normed, &groups.counts);
        let gap = Gap::new(&(&stream + outputs(&chosen)), &sorted(target));
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

fn outputs(chosen: &[Chosen]) -> Tensor {
    Tensor::cat(&chosen.iter().map(|chosen| &chosen.output).collect::<Vec<_>>(), 0)
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
