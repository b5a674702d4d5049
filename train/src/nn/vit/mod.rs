//! ViT and DeiT with every attention and MLP cut into sub-blocks, a router per half block and token (DFML).
//!
//! Two forms of the same computation ([`Form`]): masked runs every sub-block with autograd and masks, as the official
//! code does; fast, the default, gives the same values and gradients for less work.

mod evaluate;
mod fast;
mod layer;
mod masked;
mod packed;
mod queries;

use dfml_models::{Architecture, TensorMap, Vit, to_factorized};
use tch::{Device, Tensor};

use self::fast::Wanted;
use self::layer::{Layer, Loader, Norm};
use self::packed::{Packed, full_block, full_block_first};
use super::gates::{GateInit, Gates};
use crate::error::TrainError;
use crate::nn::{
    Effort, EmbeddingLayer, Form, Group, Network, NetworkOptions, Params, StreamOutput, TrainOutput,
};

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
    /// The full stream.
    pub full: StreamOutput,
    /// The routed stream.
    pub routed: StreamOutput,
    /// One per routed block; where `gap_weight` is 0 in the fast form, of constant zeros.
    pub gaps: Vec<LayerGap>,
    /// Chosen sub-block (0-based int64 `[batch, tokens]`): attention and MLP of each routed block in turn.
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
    embedding: Option<EmbeddingLayer>,
    options: NetworkOptions,
}

impl VitNetwork {
    /// Builds the network from `weights`, dense (timm's names) or factorised (the official names); see
    /// [`build`](crate::nn::build()).
    ///
    /// # Errors
    /// An inconsistent architecture; every missing, unexpected or misshapen tensor, by name.
    pub fn new(
        arch: Vit,
        weights: &TensorMap,
        options: NetworkOptions,
        device: Device,
    ) -> Result<Self, TrainError> {
        let architecture = Architecture::Vit(arch.clone());
        let weights = to_factorized(&architecture, weights)?;
        let mut params = Params::new();
        let dim = arch.dim;
        let group_of =
            |block: usize| if block < options.frozen_blocks { Group::Buffer } else { Group::Backbone };
        let group = group_of(0);
        let mut loader = Loader { params: &mut params, weights: &weights, device, group };
        let patch = [dim, 3, arch.patch_size, arch.patch_size];
        let patch_weight = loader.tensor("patch_embed.proj.weight", &patch)?;
        let patch_bias = loader.tensor("patch_embed.proj.bias", &[dim])?;
        let mut prefix = vec![loader.tensor("cls_token", &[1, 1, dim])?];
        if arch.distilled {
            prefix.push(loader.tensor("dist_token", &[1, 1, dim])?);
        }
        let tokens = arch.prefix_tokens() + arch.patches();
        let position = loader.tensor("pos_embed", &[1, tokens, dim])?;
        let gates = Gates::new(&weights, GateInit::Timm, device);
        let mut layers = Vec::with_capacity(arch.depth);
        for index in 0..arch.depth {
            loader.group = group_of(index);
            layers.push(Layer::load(&mut loader, &arch, index, &gates, options.seed)?);
        }
        loader.group = Group::Backbone;
        let norm = loader.norm("norm", dim)?;
        let embedding = EmbeddingLayer::load(&mut params, &weights, &architecture, device)?;
        Ok(Self {
            arch,
            params,
            patch_weight,
            patch_bias,
            prefix,
            position,
            layers,
            norm,
            embedding,
            options,
        })
    }

    /// Runs both streams on `pixels` `[batch, 3, height, width]`, with every gap by itself.
    pub fn forward_streams(&self, pixels: &Tensor) -> Streams {
        let start = self.tokens(pixels);
        let (mut full, mut routed) = (start.shallow_clone(), start);
        let mut gaps = Vec::with_capacity(self.layers.len());
        let mut routes = Vec::with_capacity(2 * self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let Some(gates) = &layer.gates else {
                let packed = Packed::new(layer);
                let next = full_block(layer, &packed, &full).out;
                // Before the first router there is one stream.
                routed = match routes.is_empty() {
                    true => next.shallow_clone(),
                    false => full_block(layer, &packed, &routed).out,
                };
                full = next;
                continue;
            };
            let wanted = Wanted {
                gaps: self.options.gap_weight != 0.0,
                first: self.is_last(index).then_some(self.prefix.len() as i64),
                one_stream: routes.is_empty(),
            };
            let output = match self.options.form {
                Form::Fast => fast::forward(layer, gates, &full, &routed, wanted),
                Form::Masked => masked::forward(layer, gates, &full, &routed),
            };
            (full, routed) = (output.full, output.routed);
            gaps.push(output.gap);
            routes.extend(output.routes);
        }
        let output = |stream: &Tensor| StreamOutput::new(self.read(stream), self.embedding.as_ref());
        Streams { full: output(&full), routed: output(&routed), gaps, routes }
    }

    fn is_last(&self, index: usize) -> bool {
        index + 1 == self.layers.len()
    }

    /// The full stream alone: features `[batch, dim]`.
    fn full_features(&self, pixels: &Tensor) -> Tensor {
        let mut x = self.tokens(pixels);
        for (index, layer) in self.layers.iter().enumerate() {
            let packed = Packed::new(layer);
            x = if self.is_last(index) {
                full_block_first(layer, &packed, &x, self.prefix.len() as i64, false).0
            } else {
                full_block(layer, &packed, &x).out
            };
        }
        self.read(&x)
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

    /// The features of a stream after the last block: the mean of the prefix tokens. The last normalisation works on each
    /// token by itself, so the others can be left out or absent.
    fn read(&self, stream: &Tensor) -> Tensor {
        let tokens = self.norm.forward(&stream.narrow(1, 0, self.prefix.len() as i64));
        tokens.mean_dim(1i64, false, None)
    }
}

impl Network for VitNetwork {
    fn forward_train(&self, pixels: &Tensor) -> TrainOutput {
        let streams = self.forward_streams(pixels);
        let gaps: Vec<Tensor> = streams.gaps.iter().map(|gap| &gap.attention + &gap.mlp).collect();
        let gap = if gaps.is_empty() {
            Tensor::zeros([0i64; 0], (pixels.kind(), pixels.device()))
        } else {
            Tensor::stack(&gaps, 0).sum(None) * self.options.gap_weight
        };
        TrainOutput { full: streams.full, routed: streams.routed, gap, routes: streams.routes }
    }

    fn forward_plain(&self, pixels: &Tensor) -> StreamOutput {
        StreamOutput::new(self.full_features(pixels), self.embedding.as_ref())
    }

    fn features(&self, pixels: &Tensor, effort: Effort) -> Tensor {
        if effort == Effort::All {
            return self.full_features(pixels);
        }
        let mut x = self.tokens(pixels);
        for layer in &self.layers {
            x = evaluate::block(layer, &x, effort);
        }
        self.read(&x)
    }

    fn embedding_layer(&self) -> Option<&EmbeddingLayer> {
        self.embedding.as_ref()
    }

    fn params(&self) -> &Params {
        &self.params
    }

    fn architecture(&self) -> Architecture {
        Architecture::Vit(self.arch.clone())
    }
}
