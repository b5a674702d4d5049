//! What a network costs to run, in multiply-accumulates: all sub-blocks, the routed ones, or a single one.
//!
//! Counted as is usual in publications: convolutions and matrix products, with every block whole (the exported ViT
//! computes less of its last one); no normalisation, activation, pooling or addition.

use super::{Architecture, Bottleneck, EfficientNetLite, MbConv, ResNet, Vit};

/// Multiply-accumulates for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Macs {
    /// With all sub-blocks: the dense network.
    pub full: u64,
    /// With one sub-block per router, and the routers. In a transformer, keys and values are those of all sub-blocks
    /// and tokens, queries only those of a token's own sub-block.
    pub routed: u64,
    /// With the same single sub-block everywhere, and no router.
    pub sub_block: u64,
}

impl Macs {
    fn add(&mut self, full: u64, routed: u64, sub_block: u64) {
        self.full += full;
        self.routed += routed;
        self.sub_block += sub_block;
    }

    /// What costs the same in all three.
    fn shared(&mut self, macs: u64) {
        self.add(macs, macs, macs);
    }

    /// The share of the full cost that routing saves, from 0 to 1.
    pub fn saved_by_routing(&self) -> f64 {
        1.0 - self.routed as f64 / self.full.max(1) as f64
    }
}

/// The cost of `architecture` for one image of `height` x `width` pixels, of which the first `shared_blocks` blocks are not
/// routed (frozen in training). A transformer takes images of its own size only; the arguments are then left alone.
pub fn macs(architecture: &Architecture, height: usize, width: usize, shared_blocks: usize) -> Macs {
    let mut total = Macs { full: 0, routed: 0, sub_block: 0 };
    match architecture {
        Architecture::Vit(net) => vit(net, shared_blocks, &mut total),
        Architecture::EfficientnetLite(net) => lite(net, height, width, shared_blocks, &mut total),
        Architecture::Resnet(net) => resnet(net, height, width, shared_blocks, &mut total),
    }
    if let Some(dim) = architecture.embedding_layer() {
        total.shared((dim * architecture.features()) as u64);
    }
    total
}

fn vit(net: &Vit, shared_blocks: usize, total: &mut Macs) {
    let (dim, hidden, k) = (net.dim as u64, net.mlp_hidden as u64, net.sub_blocks as u64);
    let patches = net.patches() as u64;
    let tokens = patches + net.prefix_tokens() as u64;
    total.shared(patches * dim * 3 * (net.patch_size * net.patch_size) as u64);
    let keys_and_values = 2 * dim * dim;
    // Queries, scores, mixing of values, projection, MLP: what one token needs of its own sub-block only.
    let own = dim * dim + 2 * tokens * dim + dim * dim + 2 * dim * hidden;
    let routers = 2 * k * dim;
    for block in 0..net.depth {
        let full = keys_and_values + own;
        if k == 1 || block < shared_blocks {
            total.shared(tokens * full);
        } else {
            total.add(tokens * full, tokens * (keys_and_values + own / k + routers), tokens * full / k);
        }
    }
}

/// A running image size, and the cost of what is convolved to it.
struct Image {
    height: u64,
    width: u64,
}

impl Image {
    /// Shrinks by `stride`, as SAME padding and torchvision's both do.
    fn shrink(&mut self, stride: usize) {
        self.height = self.height.div_ceil(stride as u64);
        self.width = self.width.div_ceil(stride as u64);
    }

    /// A convolution whose output has this size, of `inputs` (per group) to `outputs` channels.
    fn conv(&self, inputs: usize, outputs: usize, kernel: usize) -> u64 {
        self.height * self.width * (inputs * outputs * kernel * kernel) as u64
    }
}

fn lite(net: &EfficientNetLite, height: usize, width: usize, shared_blocks: usize, total: &mut Macs) {
    let mut image = Image { height: height as u64, width: width as u64 };
    image.shrink(2);
    total.shared(image.conv(3, net.stem_channels(), 3));
    let blocks = net.blocks();
    for block in &blocks {
        let macs = mb_conv(block, &mut image);
        if block.is_factorized(net.sub_blocks) {
            cut(macs, 0, block.in_channels, net.sub_blocks, block.index < shared_blocks, total);
        } else {
            total.shared(macs);
        }
    }
    let last = blocks.last().map_or(net.stem_channels(), |block| block.out_channels);
    total.shared(image.conv(last, net.head_channels(), 1));
}

fn mb_conv(block: &MbConv, image: &mut Image) -> u64 {
    let wide = block.expanded_channels;
    let expand = if block.expand { image.conv(block.in_channels, wide, 1) } else { 0 };
    image.shrink(block.stride);
    expand + image.conv(1, wide, block.kernel) + image.conv(wide, block.out_channels, 1)
}

fn resnet(net: &ResNet, height: usize, width: usize, shared_blocks: usize, total: &mut Macs) {
    let mut image = Image { height: height as u64, width: width as u64 };
    image.shrink(2);
    total.shared(image.conv(3, net.width, 7));
    image.shrink(2);
    for (index, block) in net.bottlenecks().iter().enumerate() {
        let (own, shared) = bottleneck(block, &mut image);
        cut(own, shared, block.in_channels, net.sub_blocks, index < shared_blocks, total);
    }
}

/// What is cut, and what is shared.
fn bottleneck(block: &Bottleneck, image: &mut Image) -> (u64, u64) {
    let reduce = image.conv(block.in_channels, block.width, 1);
    image.shrink(block.stride);
    let own = image.conv(block.width, block.width, 3) + image.conv(block.width, block.out_channels, 1);
    let downsample = if block.downsample { image.conv(block.in_channels, block.out_channels, 1) } else { 0 };
    (own, reduce + downsample)
}

/// Adds a convolutional block of which `own` is cut in `k`, with a router on `inputs` pooled channels.
fn cut(own: u64, shared: u64, inputs: usize, k: usize, unrouted: bool, total: &mut Macs) {
    total.shared(shared);
    if k == 1 || unrouted {
        total.shared(own);
    } else {
        total.add(own, own / k as u64 + (k * inputs) as u64, own / k as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{LiteVariant, preset};

    /// A transformer small enough to count on paper: 2x2 patches of 2x2 pixels and a class token, so 5 tokens of
    /// width 6, 3 heads, 12 hidden units, one block, K = 3.
    #[test]
    fn a_transformer_counted_by_hand() {
        let net = Vit {
            image_size: 4,
            patch_size: 2,
            dim: 6,
            depth: 1,
            heads: 3,
            mlp_hidden: 12,
            distilled: false,
            sub_blocks: 3,
            embedding_dim: Some(7),
        };
        // Patches: 4 * 6 * 12 = 288. Embedding layer: 7 * 6 = 42.
        let ends = 288 + 42;
        // Per token: q, k, v 36 each; scores and mixing 5 * 6 each; projection 36; MLP 72 + 72.
        let full = ends + 5 * (108 + 60 + 36 + 144);
        // Keys and values 72; a third of 36 + 60 + 36 + 144 = 276; two routers of 3 * 6.
        let routed = ends + 5 * (72 + 92 + 36);
        let sub_block = ends + 5 * 116;
        let architecture = Architecture::Vit(net);
        assert_eq!(macs(&architecture, 4, 4, 0), Macs { full, routed, sub_block });
        assert_eq!(macs(&architecture, 4, 4, 1), Macs { full, routed: full, sub_block: full });
        assert_eq!(macs(&architecture.with_sub_blocks(1), 4, 4, 0).routed, full);
    }

    /// A ResNet of one block per stage and width 2 on 8x8 pixels, K = 2.
    #[test]
    fn a_resnet_counted_by_hand() {
        let net = ResNet { blocks: [1; 4], width: 2, sub_blocks: 2, embedding_dim: None };
        // Stem to 4x4: 16 * 3 * 2 * 49 = 4704; pooled to 2x2.
        // Stage 1 at 2x2, 2 -> 2 -> 8 channels: reduce 4*2*2 = 16, 3x3 4*2*2*9 = 144, expand 4*2*8 = 64, downsample 64.
        // Stage 2, 8 -> 4 -> 16: reduce at 2x2 4*8*4 = 128; then 1x1: 4*4*9 = 144, 4*16 = 64, downsample 8*16 = 128.
        // Stage 3, 16 -> 8 -> 32: 128; 8*8*9 = 576, 256, 512. Stage 4, 32 -> 16 -> 64: 512; 2304, 1024, 2048.
        let shared = 4704 + (16 + 64) + (128 + 128) + (128 + 512) + (512 + 2048);
        let own = (144 + 64) + (144 + 64) + (576 + 256) + (2304 + 1024);
        let routers = 2 * (2 + 8 + 16 + 32);
        let found = macs(&Architecture::Resnet(net), 8, 8, 0);
        assert_eq!(
            found,
            Macs { full: shared + own, routed: shared + own / 2 + routers, sub_block: shared + own / 2 }
        );
    }

    /// Blocks 0 and 1 of Lite0 on 8x8 pixels, which the stem makes 4x4.
    #[test]
    fn an_inverted_bottleneck_counted_by_hand() {
        let blocks = EfficientNetLite::lite0().blocks();
        let mut image = Image { height: 4, width: 4 };
        // 16 * 32 * 9 + 16 * 32 * 16
        assert_eq!(mb_conv(&blocks[0], &mut image), 4608 + 8192);
        // 16 * 16 * 96 at 4x4, then 2x2: 4 * 96 * 9 + 4 * 96 * 24
        assert_eq!(mb_conv(&blocks[1], &mut image), 24576 + 3456 + 9216);
        assert_eq!((image.height, image.width), (2, 2));
    }

    /// In giga-multiply-accumulates, as published (timm's table, the papers). Google's own figures for EfficientNet-Lite (0.407, 0.631,
    /// 0.899) are 4 to 6 % above ours, at the same widths, depths and numbers of parameters: what they count beside
    /// convolutions is not said.
    #[test]
    fn published_totals() {
        for (name, giga) in [
            ("deit_tiny_patch16_224", 1.26),
            ("deit_small_distilled_patch16_224", 4.63),
            ("vit_base_patch16_224", 17.58),
            ("resnet50", 4.09),
            ("efficientnet_lite0", 0.39),
        ] {
            let preset = preset(name).unwrap();
            let side = preset.image_size as usize;
            let found = macs(&preset.architecture, side, side, 0).full as f64 / 1e9;
            assert!((found - giga).abs() < 0.02 * giga, "{name}: {found} instead of {giga}");
        }
        let lite = EfficientNetLite { variant: LiteVariant::Lite0, sub_blocks: 3, embedding_dim: None };
        let found = macs(&Architecture::EfficientnetLite(lite), 224, 224, 0);
        assert!(found.sub_block < found.routed && found.routed < found.full / 2, "{found:?}");
    }
}
