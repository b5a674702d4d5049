//! One way to make a network, whatever its backbone and however its weights are written.

use dfml_models::{Architecture, TensorMap};
use tch::Device;

use super::Network;
use super::conv::ConvNetwork;
use super::vit::VitNetwork;
use crate::error::TrainError;

/// How the two streams are computed in training; values and gradients are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Gradients only through the chosen sub-block.
    #[default]
    Fast,
    /// Every sub-block with autograd, then masked, as the official code does. The reference for values, gradients and
    /// speed.
    Masked,
}

/// What is not part of the architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkOptions {
    /// The stem and this many blocks keep their pretrained weights. Frozen blocks have no router: both streams share
    /// them, and they cost no backward pass.
    pub frozen_blocks: usize,
    /// Weight of the summed gaps; 1e-5/12 in the official code. 0 leaves them out.
    pub gap_weight: f64,
    /// Whether batch normalisations stay on their pretrained statistics in training. Otherwise the full stream is normalised
    /// by the batch, whose statistics the routed stream shares, and the running statistics follow.
    pub bn_freeze: bool,
    /// How the streams are computed.
    pub form: Form,
    /// Seed of the routers' initial weights.
    pub seed: u64,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self { frozen_blocks: 0, gap_weight: 1e-5 / 12.0, bn_freeze: true, form: Form::Fast, seed: 0 }
    }
}

/// The network `architecture` with `weights`, dense or factorised, on `device`.
///
/// Routers are taken from the weights; if these hold none at all, they are drawn from the options' seed. A block
/// without a router among others that have one was trained without, and is dense in both streams. Classifiers are
/// left out: the embedding is what is trained.
///
/// # Errors
/// An inconsistent architecture; every tensor that is missing, misshapen or unknown, by name.
pub fn build(
    architecture: &Architecture,
    weights: &TensorMap,
    options: &NetworkOptions,
    device: Device,
) -> Result<Box<dyn Network>, TrainError> {
    Ok(match architecture {
        Architecture::Vit(arch) => Box::new(VitNetwork::new(arch.clone(), weights, options.clone(), device)?),
        Architecture::EfficientnetLite(net) => {
            Box::new(ConvNetwork::efficientnet_lite(net, weights, options.clone(), device)?)
        }
        Architecture::Resnet(net) => Box::new(ConvNetwork::resnet(net, weights, options.clone(), device)?),
    })
}
