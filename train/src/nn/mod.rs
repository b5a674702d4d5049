//! Networks cut into sub-blocks, with a full and a routed stream.

pub mod efficientnet;
pub mod params;
pub mod router;
pub mod vit;

use tch::Tensor;

use dfml_models::Architecture;
pub use params::Params;

/// What one training forward pass yields.
#[derive(Debug)]
pub struct TrainOutput {
    /// Embedding of the full stream, `[batch, dim]`, L2-normalised: the sum of all sub-blocks.
    pub full: Tensor,
    /// Embedding of the routed stream, `[batch, dim]`, L2-normalised: one sub-block per token or image.
    pub routed: Tensor,
    /// Weighted sum of the layer gaps between the two streams, a scalar with gradient to the routers.
    pub gap: Tensor,
    /// Chosen sub-block (0-based, int64) per router, in network order: `[batch]` or `[batch, tokens]`.
    pub routes: Vec<Tensor>,
}

/// A network that DFML can train: factorised blocks, each with a router.
pub trait Network {
    /// Embeds `pixels` `[batch, 3, height, width]` (normalised) with all sub-blocks: `[batch, dim]`, L2-normalised.
    /// No router is evaluated; gradients flow as in any forward pass.
    fn embed(&self, pixels: &Tensor) -> Tensor;

    /// Runs both streams on `pixels` `[batch, 3, height, width]`.
    fn forward_train(&self, pixels: &Tensor) -> TrainOutput;

    /// The trainable tensors and the buffers, by name.
    fn params(&self) -> &Params;

    /// What this network is, as the manifest records it.
    fn architecture(&self) -> Architecture;
}

/// `x / sqrt(sum(x^2) + 1e-12)` over the last dimension, as the official code normalises embeddings.
pub fn l2_normalize(x: &Tensor) -> Tensor {
    let norm = (x.square().sum_dim_intlist(-1i64, true, x.kind()) + 1e-12).sqrt();
    x / norm
}
