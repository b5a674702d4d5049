//! What networks there are: sizes, tensor names and shapes. No computation.

pub mod cost;
mod efficientnet_lite;
mod infer;
mod presets;
mod resnet;
mod vit;

use serde::{Deserialize, Serialize};

pub use efficientnet_lite::{EfficientNetLite, LiteVariant, MbConv, SamePadding};
pub use infer::infer;
pub use presets::{Preset, preset, preset_names};
pub use resnet::{Bottleneck, ResNet};
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
    /// A residual network of bottlenecks (ResNet-50).
    Resnet(ResNet),
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

    /// An error, with the numbers that would do, unless `sub_blocks` divides `whole`.
    fn unless_divides(sub_blocks: usize, name: &str, whole: usize) -> Result<(), ArchitectureError> {
        if sub_blocks > 0 && whole.is_multiple_of(sub_blocks) {
            return Ok(());
        }
        let possible: Vec<String> =
            (2..=whole.min(16)).filter(|k| whole.is_multiple_of(*k)).map(|k| k.to_string()).collect();
        Err(ArchitectureError::new(format!(
            "sub_blocks ({sub_blocks}) does not divide {name} ({whole}); possible are {}",
            possible.join(", ")
        )))
    }
}

impl Architecture {
    /// Length of the embedding.
    pub fn embedding_dim(&self) -> usize {
        match self {
            Architecture::EfficientnetLite(net) => net.output_dim(),
            Architecture::Vit(net) => net.output_dim(),
            Architecture::Resnet(net) => net.output_dim(),
        }
    }

    /// Length of the features that an embedding layer works on.
    pub fn features(&self) -> usize {
        match self {
            Architecture::EfficientnetLite(net) => net.head_channels(),
            Architecture::Vit(net) => net.dim,
            Architecture::Resnet(net) => net.features(),
        }
    }

    /// Length of the linear embedding layer's output; `None` if there is no such layer.
    pub fn embedding_layer(&self) -> Option<usize> {
        match self {
            Architecture::EfficientnetLite(net) => net.embedding_dim,
            Architecture::Vit(net) => net.embedding_dim,
            Architecture::Resnet(net) => net.embedding_dim,
        }
    }

    /// The same network with another embedding layer, or none.
    #[must_use]
    pub fn with_embedding_layer(mut self, dim: Option<usize>) -> Architecture {
        match &mut self {
            Architecture::EfficientnetLite(net) => net.embedding_dim = dim,
            Architecture::Vit(net) => net.embedding_dim = dim,
            Architecture::Resnet(net) => net.embedding_dim = dim,
        }
        self
    }

    /// Number K of sub-blocks that a factorised block has; 1 means dense.
    pub fn sub_blocks(&self) -> usize {
        match self {
            Architecture::EfficientnetLite(net) => net.sub_blocks,
            Architecture::Vit(net) => net.sub_blocks,
            Architecture::Resnet(net) => net.sub_blocks,
        }
    }

    /// The same network with blocks cut in `sub_blocks`; whether they can be is for [`validate`](Self::validate).
    #[must_use]
    pub fn with_sub_blocks(mut self, sub_blocks: usize) -> Architecture {
        match &mut self {
            Architecture::EfficientnetLite(net) => net.sub_blocks = sub_blocks,
            Architecture::Vit(net) => net.sub_blocks = sub_blocks,
            Architecture::Resnet(net) => net.sub_blocks = sub_blocks,
        }
        self
    }

    /// Number of blocks, cut or not.
    pub fn depth(&self) -> usize {
        match self {
            Architecture::EfficientnetLite(net) => net.blocks().len(),
            Architecture::Vit(net) => net.depth,
            Architecture::Resnet(net) => net.blocks.iter().sum(),
        }
    }

    /// Checks that the numbers fit together (heads divide the dimension, and so on).
    pub fn validate(&self) -> Result<(), ArchitectureError> {
        match self {
            Architecture::EfficientnetLite(net) => net.validate(),
            Architecture::Vit(net) => net.validate(),
            Architecture::Resnet(net) => net.validate(),
        }
    }

    /// The tensors of the dense network that the embedding depends on.
    pub fn dense_tensors(&self) -> Vec<TensorSpec> {
        match self {
            Architecture::EfficientnetLite(net) => net.dense_tensors(),
            Architecture::Vit(net) => net.dense_tensors(),
            Architecture::Resnet(net) => net.dense_tensors(),
        }
    }

    /// The routers ("gates") of the factorised network: a bias-free linear layer to K scores each.
    /// They are in no dense weight file; training initialises them. Empty if `sub_blocks` is 1.
    pub fn gate_tensors(&self) -> Vec<TensorSpec> {
        match self {
            Architecture::EfficientnetLite(net) => net.gate_tensors(),
            Architecture::Vit(net) => net.gate_tensors(),
            Architecture::Resnet(net) => net.gate_tensors(),
        }
    }

    /// Weight and bias of the classifier that a pretrained file may hold beside what the embedding depends on.
    pub fn classifier_tensors(&self) -> [&'static str; 2] {
        match self {
            Architecture::EfficientnetLite(_) => ["_fc.weight", "_fc.bias"],
            Architecture::Vit(_) => ["head.weight", "head.bias"],
            Architecture::Resnet(_) => ["fc.weight", "fc.bias"],
        }
    }
}

/// The four tensors of a batch normalisation over `channels`.
fn push_batch_norm(out: &mut Vec<TensorSpec>, prefix: &str, channels: usize) {
    for part in ["weight", "bias", "running_mean", "running_var"] {
        out.push(TensorSpec::new(format!("{prefix}.{part}"), &[channels]));
    }
}

/// The two tensors of the embedding layer, if there is one.
fn push_embedding(out: &mut Vec<TensorSpec>, dim: Option<usize>, features: usize) {
    if let Some(dim) = dim {
        out.push(TensorSpec::new("embedding.weight", &[dim, features]));
        out.push(TensorSpec::new("embedding.bias", &[dim]));
    }
}
