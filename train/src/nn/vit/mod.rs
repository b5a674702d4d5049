//! ViT and DeiT with every attention and MLP cut into sub-blocks, a router per half block and token (DFML).
//!
//! Two forms of the same computation: [`Form::Masked`] runs every sub-block with autograd and masks, as the official
//! code does; [`Form::Fast`], the default, gives the same values and gradients for less work.

mod fast;
mod init;
mod layer;
mod masked;
mod packed;

use dfml_models::{Architecture, TensorMap, Vit, factorize};
use tch::{Device, Kind, Tensor};

use self::fast::Wanted;
use self::layer::{Layer, Loader, Norm};
use self::packed::{Packed, full_block, full_block_first};
use crate::error::TrainError;
use crate::nn::{Network, Params, TrainOutput, l2_normalize};

/// How the two streams are computed; values and gradients are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Gradients only through the chosen sub-block.
    #[default]
    Fast,
    /// Every sub-block, then masked.
    Masked,
}

/// What is not part of the architecture.
#[derive(Debug, Clone)]
pub struct VitOptions {
    /// Weight of the summed gaps; 1e-5/12 in the official code. 0 leaves them out.
    pub gap_weight: f64,
    /// Seed of the routers' initial weights.
    pub seed: u64,
    /// How the streams are computed.
    pub form: Form,
}

impl Default for VitOptions {
    fn default() -> Self {
        Self { gap_weight: 1e-5 / 12.0, seed: 0, form: Form::default() }
    }
}

/// Distance of the routed to the full stream after each half of a block: L2 over channels, summed over batch and
/// tokens; scalars with gradient.
#[derive(Debug)]
pub struct LayerGap {
    /// After the attention; its gradient reaches the attention's router only.
    pub attention: Tensor,
    /// After the MLP; its gradient reaches the MLPs, their normalisation, their router and what comes before it.
    pub mlp: Tensor,
}

impl LayerGap {
    fn new(attention: Tensor, mlp: Tensor) -> Self {
        Self { attention, mlp }
    }
}

/// Both streams' embeddings and what happened between them.
#[derive(Debug)]
pub struct Streams {
    /// Embedding of the full stream `[batch, dim]`, L2-normalised.
    pub full: Tensor,
    /// Embedding of the routed stream `[batch, dim]`, L2-normalised.
    pub routed: Tensor,
    /// One per block; empty for a dense network, and where `gap_weight` is 0 in the fast form, of constant zeros.
    pub gaps: Vec<LayerGap>,
    /// Chosen sub-block (0-based int64 `[batch, tokens]`): attention and MLP of each block in turn.
    pub routes: Vec<Tensor>,
}

/// One block's result on both streams.
struct LayerOutput {
    full: Tensor,
    routed: Tensor,
    gap: LayerGap,
    /// Of the attention and the MLP.
    routes: [Tensor; 2],
}

/// A vision transformer on libtorch. Parameters bear the official code's factorised names (timm's, where K is 1).
#[derive(Debug)]
pub struct VitNetwork {
    arch: Vit,
    params: Params,
    patch_weight: Tensor,
    patch_bias: Tensor,
    /// Class token, then the distillation token if there is one, `[1, 1, dim]` each.
    prefix: Vec<Tensor>,
    position: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    options: VitOptions,
}

impl VitNetwork {
    /// Builds the network from `weights`, dense (timm's names) or factorised (the official names); routers that are
    /// absent are drawn from the options' seed. Classifier heads are left out: the embedding is what is trained.
    ///
    /// # Errors
    /// An inconsistent architecture; a missing, unexpected or misshapen tensor, by name.
    pub fn new(
        arch: Vit,
        weights: &TensorMap,
        options: VitOptions,
        device: Device,
    ) -> Result<Self, TrainError> {
        let converted;
        let weights = if arch.sub_blocks > 1 && weights.contains_key("blocks.0.attn.qkv.weight") {
            let mut factorised = factorize(&Architecture::Vit(arch.clone()), weights)?;
            let gates = weights.iter().filter(|(name, _)| name.ends_with("gate.weight"));
            factorised.extend(gates.map(|(name, tensor)| (name.clone(), tensor.clone())));
            converted = factorised;
            &converted
        } else {
            arch.validate().map_err(dfml_models::FactorizeError::from)?;
            weights
        };
        let mut params = Params::new();
        let dim = arch.dim;
        let mut loader = Loader { params: &mut params, weights, device };
        let patch = [dim, 3, arch.patch_size, arch.patch_size];
        let patch_weight = loader.tensor("patch_embed.proj.weight", &patch)?;
        let patch_bias = loader.tensor("patch_embed.proj.bias", &[dim])?;
        let mut prefix = vec![loader.tensor("cls_token", &[1, 1, dim])?];
        if arch.distilled {
            prefix.push(loader.tensor("dist_token", &[1, 1, dim])?);
        }
        let tokens = arch.prefix_tokens() + arch.patches();
        let position = loader.tensor("pos_embed", &[1, tokens, dim])?;
        let norm = loader.norm("norm", dim)?;
        let layers = (0..arch.depth)
            .map(|index| Layer::load(&mut params, weights, &arch, index, options.seed, device))
            .collect::<Result<_, _>>()?;
        Ok(Self { arch, params, patch_weight, patch_bias, prefix, position, layers, norm, options })
    }

    /// Runs both streams on `pixels` `[batch, 3, height, width]`, with every gap by itself.
    pub fn forward_streams(&self, pixels: &Tensor) -> Streams {
        let start = self.tokens(pixels);
        let (mut full, mut routed) = (start.shallow_clone(), start);
        let mut gaps = Vec::with_capacity(self.layers.len());
        let mut routes = Vec::with_capacity(2 * self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let Some(gates) = &layer.gates else {
                // Dense: there is one stream.
                full = full_block(layer, &Packed::new(layer), &full).1;
                routed = full.shallow_clone();
                continue;
            };
            let last = index + 1 == self.layers.len();
            let wanted = Wanted {
                gaps: self.options.gap_weight != 0.0,
                first: last.then_some(self.prefix.len() as i64),
            };
            let output = match self.options.form {
                Form::Fast => fast::forward(layer, gates, &full, &routed, wanted),
                Form::Masked => masked::forward(layer, gates, &full, &routed),
            };
            (full, routed) = (output.full, output.routed);
            gaps.push(output.gap);
            routes.extend(output.routes);
        }
        Streams { full: self.read(&full), routed: self.read(&routed), gaps, routes }
    }

    /// Patch embedding with the prefix tokens and positions: `[batch, tokens, dim]`.
    fn tokens(&self, pixels: &Tensor) -> Tensor {
        let patch = self.arch.patch_size as i64;
        let patches =
            pixels.conv2d(&self.patch_weight, Some(&self.patch_bias), [patch, patch], [0, 0], [1, 1], 1);
        let patches = patches.flatten(2, 3).transpose(1, 2);
        let batch = patches.size()[0];
        let mut parts: Vec<Tensor> =
            self.prefix.iter().map(|token| token.expand([batch, -1, -1], false)).collect();
        parts.push(patches);
        Tensor::cat(&parts, 1) + &self.position
    }

    /// The embedding of a stream after the last block: the mean of the prefix tokens, normalised. The last
    /// normalisation works on each token by itself, so the others can be left out or absent.
    fn read(&self, stream: &Tensor) -> Tensor {
        let tokens = self.norm.forward(&stream.narrow(1, 0, self.prefix.len() as i64));
        l2_normalize(&tokens.mean_dim(1i64, false, Kind::Float))
    }
}

impl Network for VitNetwork {
    fn embed(&self, pixels: &Tensor) -> Tensor {
        let mut x = self.tokens(pixels);
        let count = self.prefix.len() as i64;
        for (index, layer) in self.layers.iter().enumerate() {
            let packed = Packed::new(layer);
            x = if index + 1 == self.layers.len() {
                full_block_first(layer, &packed, &x, count)
            } else {
                full_block(layer, &packed, &x).1
            };
        }
        self.read(&x)
    }

    fn forward_train(&self, pixels: &Tensor) -> TrainOutput {
        let streams = self.forward_streams(pixels);
        let gaps: Vec<Tensor> = streams.gaps.iter().map(|gap| &gap.attention + &gap.mlp).collect();
        let gap = if gaps.is_empty() {
            Tensor::zeros([0i64; 0], (Kind::Float, pixels.device()))
        } else {
            Tensor::stack(&gaps, 0).sum(Kind::Float) * self.options.gap_weight
        };
        TrainOutput { full: streams.full, routed: streams.routed, gap, routes: streams.routes }
    }

    fn params(&self) -> &Params {
        &self.params
    }

    fn architecture(&self) -> Architecture {
        Architecture::Vit(self.arch.clone())
    }
}
