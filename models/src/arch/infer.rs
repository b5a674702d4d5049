//! Which network a weight file is of, by the names and shapes of its tensors.

use super::{Architecture, ArchitectureError, EfficientNetLite, LiteVariant, ResNet, Vit};
use crate::weights::TensorMap;

/// The usual length of an attention head; with it the number of heads follows from the width.
const HEAD_DIM: usize = 64;

/// The network that `weights` (dense or factorised, under timm's, torchvision's or our names) are of.
///
/// `sub_blocks` is the K wanted of dense weights; factorised ones bring their own. `heads` is needed only for a
/// transformer whose heads are not 64 long: nothing in a file tells it. Whether every tensor is there and fits is for
/// [`crate::factorize()`] to say.
///
/// # Errors
/// Names of no known family, or numbers that do not work out.
pub fn infer(
    weights: &TensorMap,
    sub_blocks: usize,
    heads: Option<usize>,
) -> Result<Architecture, ArchitectureError> {
    let source = Source(weights);
    let architecture = if weights.contains_key("patch_embed.proj.weight") {
        Architecture::Vit(source.vit(sub_blocks, heads)?)
    } else if weights.contains_key("_conv_stem.weight") {
        Architecture::EfficientnetLite(source.lite(sub_blocks)?)
    } else if weights.contains_key("layer1.0.conv1.weight") {
        Architecture::Resnet(source.resnet(sub_blocks)?)
    } else {
        let names: Vec<&str> = weights.keys().take(5).map(String::as_str).collect();
        return Err(ArchitectureError::new(format!(
            "neither a ViT, nor an EfficientNet-Lite, nor a ResNet: its tensors are {}…",
            names.join(", ")
        )));
    };
    architecture.validate()?;
    Ok(architecture)
}

struct Source<'a>(&'a TensorMap);

impl Source<'_> {
    /// Extent `dimension` of tensor `name`.
    fn extent(&self, name: &str, dimension: usize) -> Result<usize, ArchitectureError> {
        let tensor = self.0.get(name).ok_or_else(|| {
            ArchitectureError::new(format!("tensor {name} is missing, so its size is unknown"))
        })?;
        tensor
            .shape
            .get(dimension)
            .copied()
            .ok_or_else(|| ArchitectureError::new(format!("tensor {name} has shape {:?}", tensor.shape)))
    }

    /// How many of `name(0)`, `name(1)`, … there are.
    fn count(&self, first: usize, name: impl Fn(usize) -> String) -> usize {
        (first..).take_while(|index| self.0.contains_key(&name(*index))).count()
    }

    /// K of a factorised file, whose parts are `name(1)` …; else what is wanted.
    fn sub_blocks(&self, wanted: usize, name: impl Fn(usize) -> String) -> usize {
        match self.count(1, name) {
            0 => wanted,
            found => found,
        }
    }

    fn embedding(&self) -> Option<usize> {
        self.extent("embedding.weight", 0).ok()
    }

    fn vit(&self, wanted: usize, heads: Option<usize>) -> Result<Vit, ArchitectureError> {
        let patch = "patch_embed.proj.weight";
        let (dim, patch_size) = (self.extent(patch, 0)?, self.extent(patch, 3)?);
        let sub_blocks = self.sub_blocks(wanted, |n| format!("blocks.0.attn.qkv{n}.weight"));
        let mlp_hidden = match self.extent("blocks.0.mlp.fc1.weight", 0) {
            Ok(hidden) => hidden,
            Err(_) => self.extent("blocks.0.mlp1.fc1.weight", 0)? * sub_blocks,
        };
        let distilled = self.0.contains_key("dist_token");
        let patches = self.extent("pos_embed", 1)?.saturating_sub(1 + usize::from(distilled));
        let side = patches.isqrt();
        if side * side != patches {
            let reason = format!("pos_embed is for {patches} patches, which are no square");
            return Err(ArchitectureError::new(reason));
        }
        let heads = match heads {
            Some(heads) => heads,
            None if dim > 0 && dim.is_multiple_of(HEAD_DIM) => dim / HEAD_DIM,
            None => {
                let reason = format!(
                    "width {dim} is no multiple of the usual head length {HEAD_DIM}: say how many heads there are"
                );
                return Err(ArchitectureError::new(reason));
            }
        };
        let depth = self.count(0, |block| format!("blocks.{block}.norm1.weight"));
        let embedding_dim = self.embedding();
        let image_size = side * patch_size;
        Ok(Vit {
            image_size,
            patch_size,
            dim,
            depth,
            heads,
            mlp_hidden,
            distilled,
            sub_blocks,
            embedding_dim,
        })
    }

    fn lite(&self, wanted: usize) -> Result<EfficientNetLite, ArchitectureError> {
        let depth = (0..).take_while(|i| self.0.contains_key(&format!("_blocks.{i}._bn2.weight"))).count();
        let sub_blocks = self.sub_blocks(wanted, |n| format!("_blocks.1.sub{n}._expand_conv.weight"));
        let widths = |block: usize| self.extent(&format!("_blocks.{block}._bn2.weight"), 0);
        let variants = [
            LiteVariant::Lite0,
            LiteVariant::Lite1,
            LiteVariant::Lite2,
            LiteVariant::Lite3,
            LiteVariant::Lite4,
        ];
        let nets =
            variants.map(|variant| EfficientNetLite { variant, sub_blocks, embedding_dim: self.embedding() });
        let fits = |net: &EfficientNetLite| {
            let blocks = net.blocks();
            blocks.len() == depth && blocks.iter().all(|b| widths(b.index) == Ok(b.out_channels))
        };
        nets.into_iter().find(fits).ok_or_else(|| {
            let reason = format!("its {depth} blocks have the widths of no EfficientNet-Lite from 0 to 4");
            ArchitectureError::new(reason)
        })
    }

    fn resnet(&self, wanted: usize) -> Result<ResNet, ArchitectureError> {
        let block = |stage: usize| move |index: usize| format!("layer{stage}.{index}.conv1.weight");
        Ok(ResNet {
            blocks: [1, 2, 3, 4].map(|stage| self.count(0, block(stage))),
            width: self.extent("conv1.weight", 0)?,
            sub_blocks: self.sub_blocks(wanted, |n| format!("layer1.0.sub{n}.conv2.weight")),
            embedding_dim: self.embedding(),
        })
    }
}
