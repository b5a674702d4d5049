//! Vision transformers as timm names and computes them: ViT, and DeiT with its distillation token.

use serde::{Deserialize, Serialize};

use super::{ArchitectureError, TensorSpec, push_embedding};

/// Added to the variance in every layer normalisation of the network.
pub const LAYER_NORM_EPS: f32 = 1e-6;

/// A vision transformer whose features are its class token after the last normalisation; where `distilled`,
/// the mean of the class and distillation tokens. Without an embedding layer they are the embedding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vit {
    /// Side of the square image in pixels.
    pub image_size: usize,
    /// Side of a square patch in pixels.
    pub patch_size: usize,
    /// Length of a token, and so of the features.
    pub dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Hidden units of a block's MLP.
    pub mlp_hidden: usize,
    /// Whether there is a distillation token beside the class token (DeiT).
    pub distilled: bool,
    /// Number K of sub-blocks of every attention and every MLP; 1 means dense.
    pub sub_blocks: usize,
    /// Length of the linear embedding layer on the features; without it the features are the embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_dim: Option<usize>,
}

impl Vit {
    /// DeiT-S (distilled): 384-d, 12 blocks, 6 heads, 224 pixels, patches of 16.
    pub fn deit_small_distilled() -> Vit {
        Vit {
            image_size: 224,
            patch_size: 16,
            dim: 384,
            depth: 12,
            heads: 6,
            mlp_hidden: 1536,
            distilled: true,
            sub_blocks: 1,
            embedding_dim: None,
        }
    }

    /// Length of the embedding.
    pub fn output_dim(&self) -> usize {
        self.embedding_dim.unwrap_or(self.dim)
    }

    /// Number of patches.
    pub fn patches(&self) -> usize {
        let side = self.image_size.checked_div(self.patch_size).unwrap_or(0);
        side * side
    }

    /// Tokens before the patches: the class token, and the distillation token if there is one.
    pub fn prefix_tokens(&self) -> usize {
        1 + usize::from(self.distilled)
    }

    /// Length of one head's query, key and value.
    pub fn head_dim(&self) -> usize {
        self.dim.checked_div(self.heads).unwrap_or(0)
    }

    /// Checks that the numbers fit together.
    pub fn validate(&self) -> Result<(), ArchitectureError> {
        let numbers = [
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("dim", self.dim),
            ("depth", self.depth),
            ("heads", self.heads),
            ("mlp_hidden", self.mlp_hidden),
            ("sub_blocks", self.sub_blocks),
            ("embedding_dim", self.embedding_dim.unwrap_or(1)),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, value)| *value == 0) {
            return Err(ArchitectureError::new(format!("{name} is 0")));
        }
        let divides = [
            ("patch_size", self.patch_size, "image_size", self.image_size),
            ("heads", self.heads, "dim", self.dim),
        ];
        for (part_name, part, whole_name, whole) in divides {
            if whole % part != 0 {
                let reason = format!("{part_name} ({part}) does not divide {whole_name} ({whole})");
                return Err(ArchitectureError::new(reason));
            }
        }
        ArchitectureError::unless_divides(self.sub_blocks, "heads", self.heads)?;
        ArchitectureError::unless_divides(self.sub_blocks, "mlp_hidden", self.mlp_hidden)
    }

    /// The tensors of the dense network (timm's names).
    pub fn dense_tensors(&self) -> Vec<TensorSpec> {
        let (dim, patch) = (self.dim, self.patch_size);
        let mut out = vec![TensorSpec::new("cls_token", &[1, 1, dim])];
        if self.distilled {
            out.push(TensorSpec::new("dist_token", &[1, 1, dim]));
        }
        out.push(TensorSpec::new("pos_embed", &[1, self.prefix_tokens() + self.patches(), dim]));
        out.push(TensorSpec::new("patch_embed.proj.weight", &[dim, 3, patch, patch]));
        out.push(TensorSpec::new("patch_embed.proj.bias", &[dim]));
        for block in 0..self.depth {
            let mut linear = |name: &str, rows: usize, columns: usize| {
                out.push(TensorSpec::new(format!("blocks.{block}.{name}.weight"), &[rows, columns]));
                out.push(TensorSpec::new(format!("blocks.{block}.{name}.bias"), &[rows]));
            };
            linear("attn.qkv", 3 * dim, dim);
            linear("attn.proj", dim, dim);
            linear("mlp.fc1", self.mlp_hidden, dim);
            linear("mlp.fc2", dim, self.mlp_hidden);
            push_layer_norm(&mut out, &format!("blocks.{block}.norm1"), dim);
            push_layer_norm(&mut out, &format!("blocks.{block}.norm2"), dim);
        }
        push_layer_norm(&mut out, "norm", dim);
        push_embedding(&mut out, self.embedding_dim, dim);
        out
    }

    /// Two routers per block: `blocks.{i}.attn.gate.weight` and `blocks.{i}.gate.weight`, \[K, dim\].
    pub fn gate_tensors(&self) -> Vec<TensorSpec> {
        if self.sub_blocks <= 1 {
            return Vec::new();
        }
        (0..self.depth)
            .flat_map(|block| {
                [format!("blocks.{block}.attn.gate.weight"), format!("blocks.{block}.gate.weight")]
            })
            .map(|name| TensorSpec::new(name, &[self.sub_blocks, self.dim]))
            .collect()
    }
}

fn push_layer_norm(out: &mut Vec<TensorSpec>, prefix: &str, dim: usize) {
    out.push(TensorSpec::new(format!("{prefix}.weight"), &[dim]));
    out.push(TensorSpec::new(format!("{prefix}.bias"), &[dim]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_names_the_numbers_that_disagree() {
        assert_eq!(Vit::deit_small_distilled().validate(), Ok(()));
        let bad = Vit { sub_blocks: 4, ..Vit::deit_small_distilled() };
        assert!(bad.validate().unwrap_err().to_string().contains("sub_blocks (4) does not divide heads (6)"));
        let bad = Vit { patch_size: 0, ..Vit::deit_small_distilled() };
        assert!(bad.validate().unwrap_err().to_string().contains("patch_size is 0"));
    }
}
