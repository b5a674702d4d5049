//! The linear layer between a backbone's features and the embedding.

use dfml_models::{Architecture, TensorMap};
use tch::{Device, Tensor};

use super::params::{Group, Params};
use crate::error::TrainError;

/// `features * weight^T + bias`.
#[derive(Debug)]
pub struct EmbeddingLayer {
    /// `[dim, features]`
    weight: Tensor,
    /// `[dim]`
    bias: Tensor,
}

impl EmbeddingLayer {
    /// Takes `embedding.weight` and `embedding.bias` out of `weights`, if the architecture has such a layer.
    pub(super) fn load(
        params: &mut Params,
        weights: &TensorMap,
        architecture: &Architecture,
        device: Device,
    ) -> Result<Option<Self>, TrainError> {
        let Some(dim) = architecture.embedding_layer() else { return Ok(None) };
        let mut tensor = |name: &str, shape: &[usize]| {
            params.load(weights, format!("embedding.{name}"), shape, Group::Embedding, device)
        };
        let weight = tensor("weight", &[dim, architecture.features()])?;
        Ok(Some(Self { weight, bias: tensor("bias", &[dim])? }))
    }

    /// `[batch, features] -> [batch, dim]`
    pub fn forward(&self, features: &Tensor) -> Tensor {
        features.linear(&self.weight, Some(&self.bias))
    }
}
