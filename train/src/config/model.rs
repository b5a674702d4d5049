//! Settings of the network.

use std::path::PathBuf;

use dfml_models::Architecture;
use serde::{Deserialize, Serialize};

use super::positive;

/// Dimensions of the embedding layer of convolutional networks, if not set.
const EMBEDDING_DIM: usize = 384;

/// A published network by timm's name, or its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ArchChoice {
    /// Such as `efficientnet_lite0`, `deit_small_distilled_patch16_224`, `resnet50`.
    Name(String),
    /// A table with `family` and the numbers of the network.
    Explicit(Architecture),
}

/// Which network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// The network; without, the one that the weights are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<ArchChoice>,
    /// Pretrained weights, dense or factorised (.pth, .safetensors); `--weights` goes over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Sub-blocks per block (K).
    pub sub_blocks: usize,
    /// Dimensions of the embedding. Without it a transformer's features are the embedding, as in the official code, and other
    /// networks get a linear layer to 384 dimensions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_dim: Option<usize>,
    /// The stem and this many blocks stay as pretrained, shared by both streams.
    pub frozen_blocks: usize,
    /// Whether batch normalisations stay on their pretrained statistics.
    pub bn_freeze: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            arch: None,
            weights: None,
            sub_blocks: 3,
            embedding_dim: None,
            frozen_blocks: 0,
            bn_freeze: true,
        }
    }
}

impl ModelConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        positive("model.sub_blocks", self.sub_blocks)?;
        positive("model.embedding_dim", self.embedding_dim.unwrap_or(1))
    }

    /// Dimensions of the embedding layer that `architecture` gets; `None` if it gets none.
    pub fn embedding_layer(&self, architecture: &Architecture) -> Option<usize> {
        match (self.embedding_dim, architecture) {
            (None, Architecture::Vit(_)) => None,
            (Some(dim), Architecture::Vit(net)) if dim == net.dim => None,
            (dim, _) => Some(dim.unwrap_or(EMBEDDING_DIM)),
        }
    }
}
