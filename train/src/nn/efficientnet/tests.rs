//! The factorised network against the dense one, and the routed stream against masking, on real weights and images.

use std::path::{Path, PathBuf};

use dfml_models::{EfficientNetLite, LiteVariant, Transform, load_weights};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::data::eval_pixels;
use crate::nn::router::route;

/// Pretrained network in three sub-blocks; nothing frozen.
fn pretrained() -> EfficientNet {
    let path = dfml_models::cache_dir().join("weights/efficientnet-lite0.pth");
    let weights = load_weights(&path)
        .unwrap_or_else(|error| panic!("{error}; `cargo xtask setup` fetches the pretrained weights"));
    let arch = EfficientNetLite { variant: LiteVariant::Lite0, sub_blocks: 3, embedding_dim: None };
    let options = EfficientNetOptions { frozen_blocks: 0, gap_weight: 1.0, seed: 7 };
    EfficientNet::new(arch, &weights, options, Device::Cpu).unwrap()
}

/// The golden preprocessing images, `[5, 3, 96, 96]`: photographs and drawings of several shapes.
fn real_images() -> Tensor {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/preprocess"));
    let files =
        ["photo.jpg", "landscape.png", "portrait.png", "gray.png", "small.png"].map(|f| folder.join(f));
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    eval_pixels(&paths, &Transform::efficientnet_lite(96), Device::Cpu).unwrap().1
}

/// Largest difference relative to the largest value.
fn relative_gap(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).abs().max() / b.abs().max()).double_value(&[])
}

/// Runs `check` on every routed block with the input that real images give it.
fn each_routed_block(network: &EfficientNet, mut check: impl FnMut(&Block, &Tensor, &Tensor)) {
    let mut x = tch::no_grad(|| network.stem.forward(&real_images(), &network.stem.fuse()).relu6_());
    let mut routed = 0;
    for block in &network.blocks {
        if let Some(gate) = &block.gate {
            check(block, &x, gate);
            routed += 1;
        }
        x = tch::no_grad(|| block.forward_full(&x, &block.fuse()));
    }
    assert_eq!(routed, 15, "every block but the first is cut");
}

#[test]
fn the_sum_of_the_sub_blocks_is_the_dense_block() {
    let network = pretrained();
    each_routed_block(&network, |block, x, _| {
        tch::no_grad(|| {
            let fused = block.fuse();
            let parts = (0..3).map(|k| block.sub_block(x, k, &fused)).reduce(|sum, part| sum + part);
            let sum = block.residual(x, parts.unwrap());
            let gap = relative_gap(&sum, &block.forward_full(x, &fused));
            assert!(gap < 1e-5, "{gap} at {block:?}");
        });
    });
}

#[test]
fn the_routed_stream_equals_computing_every_sub_block_and_masking() {
    let network = pretrained();
    each_routed_block(&network, |block, x, gate| {
        let full = tch::no_grad(|| block.forward_full(x, &block.fuse()));
        let upstream = Tensor::randn(full.size(), (Kind::Float, Device::Cpu));
        let gradients = |run: &dyn Fn(&Tensor) -> (Tensor, Tensor)| {
            let x = x.detach().set_requires_grad(true);
            let (output, gap) = run(&x);
            let loss = (&output * &upstream).sum(Kind::Float) + gap;
            let leaves = [x.shallow_clone(), gate.shallow_clone(), block.project.weight.shallow_clone()];
            let gradients = Tensor::run_backward(&[loss], &leaves, false, false);
            (output.detach(), gradients)
        };
        let (fast, fast_gradients) = gradients(&|x| {
            let out = block.forward_routed(x, &full, &block.fuse(), gate);
            (out.output, out.gap)
        });
        let (masked, masked_gradients) = gradients(&|x| masked(block, x, &full, gate));
        assert!(relative_gap(&fast, &masked) < 1e-5);
        for (name, (fast, masked)) in
            ["input", "router", "projection"].iter().zip(fast_gradients.iter().zip(&masked_gradients))
        {
            let gap = relative_gap(fast, masked);
            assert!(gap < 1e-4, "gradient of the {name}: {gap} at {block:?}");
        }
    });
}

/// Output and gap of a routed block as the official code computes them for its networks: every sub-block with autograd, times
/// its gate.
fn masked(block: &Block, x: &Tensor, full: &Tensor, gate: &Tensor) -> (Tensor, Tensor) {
    let fused = block.fuse();
    let routing = route(&x.mean_dim([2i64, 3].as_slice(), false, Kind::Float), gate);
    let gated = |k: i64, part: Tensor| part * routing.gate.select(1, k).view([-1, 1, 1, 1]);
    let parts: Vec<Tensor> = (0..3).map(|k| block.sub_block(x, k, &fused)).collect();
    let sum = |detached: bool| {
        let gated = parts
            .iter()
            .enumerate()
            .map(|(k, part)| gated(k as i64, if detached { part.detach() } else { part.shallow_clone() }));
        gated.reduce(|sum, part| sum + part).unwrap()
    };
    let apart = block.residual(&x.detach(), sum(true)) - full;
    let norm = (apart.square().sum_dim_intlist(1i64, false, Kind::Float) + 1e-12).sqrt();
    let gap = norm.mean_dim([1i64, 2].as_slice(), false, Kind::Float).sum(Kind::Float);
    (block.residual(x, sum(false)), gap)
}
