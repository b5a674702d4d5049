//! What every backbone can do.

use dfml_models::{Architecture, TensorMap, to_dense, to_factorized};
use tch::Tensor;

use super::{EmbeddingLayer, Params};
use crate::error::TrainError;

/// How much of a network an evaluation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// Every sub-block: the dense network, which is what is served.
    #[default]
    All,
    /// The sub-block that each router chooses, and nothing else.
    Routed,
    /// The same sub-block (from 0) in every block that is cut.
    SubBlock(usize),
}

/// One stream's result for a batch.
#[derive(Debug)]
pub struct StreamOutput {
    /// The features after the embedding layer, if there is one: `[batch, dim]`, as a classifier reads them.
    pub raw: Tensor,
    /// `raw`, L2-normalised: what is searched with.
    pub embedding: Tensor,
}

impl StreamOutput {
    /// From features `[batch, features]`, through the embedding layer if there is one.
    pub(super) fn new(features: Tensor, layer: Option<&EmbeddingLayer>) -> Self {
        let raw = match layer {
            Some(layer) => layer.forward(&features),
            None => features,
        };
        Self { embedding: l2_normalize(&raw), raw }
    }
}

/// What one training forward pass yields.
#[derive(Debug)]
pub struct TrainOutput {
    /// The full stream: the sum of all sub-blocks.
    pub full: StreamOutput,
    /// The routed stream: one sub-block per token or image.
    pub routed: StreamOutput,
    /// Weighted sum of the layer gaps between the two streams, a scalar with gradient to the routers.
    pub gap: Tensor,
    /// Chosen sub-block (0-based, int64) per router, in network order: `[batch]` or `[batch, tokens]`.
    pub routes: Vec<Tensor>,
}

/// A network that DFML can train: factorised blocks, each with a router.
pub trait Network: std::fmt::Debug {
    /// Runs both streams on `pixels` `[batch, 3, height, width]` (normalised), in training.
    fn forward_train(&self, pixels: &Tensor) -> TrainOutput;

    /// Runs the full stream alone on `pixels`, in training: what plain metric learning trains.
    fn forward_plain(&self, pixels: &Tensor) -> StreamOutput;

    /// The features of `pixels` that the embedding layer works on, `[batch, features]`, in evaluation: pooled, or the
    /// (mean) class token. Not normalised.
    fn features(&self, pixels: &Tensor, effort: Effort) -> Tensor;

    /// The linear embedding layer, if there is one.
    fn embedding_layer(&self) -> Option<&EmbeddingLayer>;

    /// The tensors and buffers by name, in the form in which they are in memory (dense or factorised).
    fn params(&self) -> &Params;

    /// What this network is, as the manifest records it.
    fn architecture(&self) -> Architecture;

    /// What a classifier reads in evaluation: the features after the embedding layer, `[batch, dim]`, not normalised.
    fn raw(&self, pixels: &Tensor, effort: Effort) -> Tensor {
        let features = self.features(pixels, effort);
        match self.embedding_layer() {
            Some(layer) => layer.forward(&features),
            None => features,
        }
    }

    /// Embeds `pixels` in evaluation with as much of the network as `effort` says: `[batch, dim]`, L2-normalised.
    fn embed_with(&self, pixels: &Tensor, effort: Effort) -> Tensor {
        l2_normalize(&self.raw(pixels, effort))
    }

    /// Embeds `pixels` in evaluation with all sub-blocks: `[batch, dim]`, L2-normalised.
    fn embed(&self, pixels: &Tensor) -> Tensor {
        self.embed_with(pixels, Effort::All)
    }

    /// Every tensor under its factorised name, routers included: what a checkpoint holds, and what
    /// [`build`](super::build()) takes.
    ///
    /// # Errors
    /// Never for a network that [`build`](super::build()) made.
    fn checkpoint(&self) -> Result<TensorMap, TrainError> {
        Ok(to_factorized(&self.architecture(), &self.params().to_host())?)
    }

    /// The dense network of the same function (all sub-blocks summed), for export; routers are left out.
    ///
    /// # Errors
    /// Never for a network that [`build`](super::build()) made.
    fn dense(&self) -> Result<TensorMap, TrainError> {
        Ok(to_dense(&self.architecture(), &self.params().to_host())?)
    }
}

/// `x / sqrt(sum(x^2) + 1e-12)` over the last dimension, as the official code normalises embeddings.
pub fn l2_normalize(x: &Tensor) -> Tensor {
    let norm = (x.square().sum_dim_intlist(-1i64, true, x.kind()) + 1e-12).sqrt();
    x / norm
}
