//! The router: which sub-block an image (or token) takes.

use tch::{Kind, Tensor};

/// A router's decision for a batch.
#[derive(Debug)]
pub struct Routing {
    /// One-hot choice with the straight-through gradient of the softmax, `[batch, K]`.
    pub gate: Tensor,
    /// Chosen sub-block, 0-based int64 `[batch]`.
    pub choice: Tensor,
}

/// Routes `input` `[batch, features]` by the bias-free linear `weight` `[K, features]`: softmax, arg-max one-hot, and
/// the straight-through gradient `(hard - soft).detach() + soft` (DFML, official code).
pub fn route(input: &Tensor, weight: &Tensor) -> Routing {
    let soft = input.matmul(&weight.transpose(0, 1)).softmax(-1, Kind::Float);
    let choice = soft.argmax(-1, false);
    let hard = choice.one_hot(soft.size()[1]).to_kind(Kind::Float);
    let gate = (hard - &soft).detach() + soft;
    Routing { gate, choice }
}
