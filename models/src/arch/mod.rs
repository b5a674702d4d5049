//! What networks there are: sizes, tensor names and shapes. No computation.

mod efficientnet_lite;
mod vit;

use serde::{Deserialize, Serialize};

pub use efficientnet_lite::{BATCH_NORM_EPS, EfficientNetLite, LiteVariant, MbConv, SamePadding};
pub use vit::{LAYER_NORM_EPS, Vit};

/// Added to the sum of squares before the root when an embedding is brought to unit length.
pub const L2_EPS: f32 = 1e-12;

/// A network that maps an image to an embedding, with everything needed to build it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum Architecture {
    /// A convolutional EfficientNet-Lite.
    EfficientnetLite(EfficientNetLite),
    /// A vision transformer (ViT or DeiT).
    Vit(Vit),
}

/// A tensor that a network needs: its name in the weight file, and its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the weight file.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    pub(crate) fn new(name: impl Into<String>, shape: &[usize]) -> TensorSpec {
        TensorSpec { name: name.into(), shape: shape.to_vec() }
    }
}

/// An architecture whose numbers do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the architecture does not work out: {reason}")]
pub struct ArchitectureError {
    /// Which numbers disagree.
    pub reason: String,
}

impl ArchitectureError {
    pub(crate) fn new(reason: impl Into<String>) -> ArchitectureError {
        ArchitectureError { reason: reason.into() }
    }
}

impl Architecture {
    /// Length of the embedding.
    pub fn embedding_dim(&self) -> usize {
        match self {
            Architecture::EfficientnetLite(net) => net.output_dim(),
            Architecture::Vit(net) => net.dim,
        }
    }

    /// Number K of sub-blocks that a factorised block has; 1 means dense.
    pub fn sub_blocks(&self) -> usize {
        match self {
            Architecture::EfficientnetLite(net) => net.sub_blocks,
            Architecture::Vit(net) => net.sub_blocks,
        }
    }

    /// Checks that the numbers fit together (heads divide the dimension, and so on).
    pub fn validate(&self) -> Result<(), ArchitectureError> {
        match self {
            Architecture::EfficientnetLite(net) => net.validate(),
            Architecture::Vit(net) => net.validate(),
        }
    }

    /// The tensors of the dense network that the embedding depends on.
    pub fn dense_tensors(&self) -> Vec<TensorSpec> {
        match self {
            Architecture::EfficientnetLite(net) => net.dense_tensors(),
            Architecture::Vit(net) => net.dense_tensors(),
        }
    }

    /// The routers ("gates") of the factorised network: a bias-free linear layer to K scores each.
    /// They are in no dense weight file; training initialises them. Empty if `sub_blocks` is 1.
    pub fn gate_tensors(&self) -> Vec<TensorSpec> {
        match self {
            Architecture::EfficientnetLite(net) => net.gate_tensors(),
            Architecture::Vit(net) => net.gate_tensors(),
        }
    }
}
