//! The official computation: every sub-block with autograd, then masked by the router. The reference that the fast
//! form is held against; also what its speed is measured against.

use tch::Tensor;

use super::layer::{Gates, Layer, SubAttention};
use super::{LayerGap, LayerOutput};
use crate::nn::router::Routing;

/// One block on both streams, `[batch, tokens, dim]` each.
pub(super) fn forward(layer: &Layer, gates: &Gates, full: &Tensor, routed: &Tensor) -> LayerOutput {
    let full_mid = full + sum(&attend_all(layer, &layer.norm1.forward(full)));
    let full_out = &full_mid + sum(&mlp_all(layer, &layer.norm2.forward(&full_mid)));

    let normed = layer.norm1.forward(routed);
    let attention = attend_all(layer, &normed);
    let routing = route_tokens(&normed, &gates.attention);
    let routed_mid = routed + mask(&attention, &routing.0);
    // For the gap the sub-blocks and their input are constants, so that it teaches the router alone.
    let constant: Vec<Tensor> = attention.iter().map(Tensor::detach).collect();
    let gap_gate = route_tokens(&normed.detach(), &gates.attention).0;
    let gap_attention = gap(&(routed.detach() + mask(&constant, &gap_gate)), &full_mid);

    let mlp_routing = route_tokens(&routed_mid, &gates.mlp);
    let routed_out = &routed_mid + mask(&mlp_all(layer, &layer.norm2.forward(&routed_mid)), &mlp_routing.0);
    // Official: the same MLPs a second time, on the stream after them. Here only the input is a constant: the gap also
    // teaches the MLPs, the second normalisation, and, through the router's input, what came before.
    let constant_input = routed_out.detach();
    let again = mlp_all(layer, &layer.norm2.forward(&constant_input));
    let gap_mlp = gap(&(constant_input + mask(&again, &mlp_routing.0)), &full_out);

    LayerOutput {
        full: full_out,
        routed: routed_out,
        gap: LayerGap::new(gap_attention, gap_mlp),
        routes: [routing.1, mlp_routing.1],
    }
}

/// Gate `[batch, tokens, K]` with the straight-through gradient, and choice `[batch, tokens]`.
fn route_tokens(x: &Tensor, gate: &Tensor) -> (Tensor, Tensor) {
    let size = x.size();
    let routing = Routing::new(&x.reshape([-1, size[2]]), gate);
    (routing.gate().view([size[0], size[1], -1]), routing.choice.view([size[0], size[1]]))
}

fn attend_all(layer: &Layer, x: &Tensor) -> Vec<Tensor> {
    let heads = layer.heads / layer.attention.len() as i64;
    layer.attention.iter().map(|sub| attend(sub, heads, x)).collect()
}

/// One sub-block's attention with its `heads` heads: `[batch, tokens, dim] -> [batch, tokens, dim]`.
fn attend(sub: &SubAttention, heads: i64, x: &Tensor) -> Tensor {
    let (batch, tokens) = (x.size()[0], x.size()[1]);
    let width = sub.proj.weight.size()[1];
    let head = width / heads;
    let qkv = sub.qkv.forward(x).reshape([batch, tokens, 3, heads, head]).permute([2, 0, 3, 1, 4]);
    let (q, k, v) = (qkv.get(0), qkv.get(1), qkv.get(2));
    let weights = (q.matmul(&k.transpose(-2, -1)) * (head as f64).powf(-0.5)).softmax(-1, None);
    sub.proj.forward(&weights.matmul(&v).transpose(1, 2).reshape([batch, tokens, width]))
}

fn mlp_all(layer: &Layer, x: &Tensor) -> Vec<Tensor> {
    layer.mlp.iter().map(|sub| sub.forward(x)).collect()
}

fn sum(outputs: &[Tensor]) -> Tensor {
    outputs[1..].iter().fold(outputs[0].shallow_clone(), |sum, output| sum + output)
}

/// Each output times its gate, summed.
fn mask(outputs: &[Tensor], gate: &Tensor) -> Tensor {
    let parts: Vec<Tensor> =
        outputs.iter().enumerate().map(|(k, output)| output * gate.narrow(2, k as i64, 1)).collect();
    sum(&parts)
}

/// L2 distance of each token to the full stream's, which is held constant, summed over batch and tokens.
fn gap(routed: &Tensor, full: &Tensor) -> Tensor {
    let distance = (routed - full.detach()).square().sum_dim_intlist(2i64, false, None).sqrt();
    distance.sum(None)
}
