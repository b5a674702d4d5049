//! Blocks cut into sub-blocks against dense ones, and the routed stream against masking, on real images.

use std::path::PathBuf;

use dfml_models::{LiteVariant, Transform, load_weights, preset};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::config::BadImage;
use crate::data::eval_pixels;
use crate::nn::fresh_weights;

/// Lite0 with its pretrained weights in three sub-blocks.
fn pretrained() -> ConvNetwork {
    let path = dfml_models::cache_dir().join("weights/efficientnet-lite0.pth");
    let weights = load_weights(&path)
        .unwrap_or_else(|error| panic!("{error}; `cargo xtask setup` fetches the pretrained weights"));
    let net = EfficientNetLite { variant: LiteVariant::Lite0, sub_blocks: 3, embedding_dim: None };
    ConvNetwork::efficientnet_lite(&net, &weights, NetworkOptions::default(), Device::Cpu).unwrap()
}

/// `architecture` with weights from a seed.
fn random(architecture: &Architecture) -> ConvNetwork {
    let weights = fresh_weights(architecture, 3);
    let options = NetworkOptions::default();
    match architecture {
        Architecture::EfficientnetLite(net) => {
            ConvNetwork::efficientnet_lite(net, &weights, options, Device::Cpu)
        }
        Architecture::Resnet(net) => ConvNetwork::resnet(net, &weights, options, Device::Cpu),
        Architecture::Vit(_) => panic!("no convolutional network"),
    }
    .unwrap()
}

fn published(name: &str, k: usize) -> ConvNetwork {
    random(&preset(name).unwrap().architecture.with_sub_blocks(k))
}

/// The golden preprocessing images, `[5, 3, 64, 64]`: photographs and drawings of several shapes.
fn real_images() -> Tensor {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/preprocess"));
    let files =
        ["photo.jpg", "landscape.png", "portrait.png", "gray.png", "small.png"].map(|f| folder.join(f));
    eval_pixels(&files, &Transform::efficientnet_lite(64), BadImage::Error, Device::Cpu).unwrap().pixels
}

/// Largest difference relative to the largest value.
fn relative_gap(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).abs().max() / b.abs().max()).double_value(&[])
}

/// Runs `check` on every routed block with the input that real images give it.
fn each_routed_block(
    networks: &[(&str, ConvNetwork)],
    mut check: impl FnMut(&str, &Block, &Tensor, &Tensor),
) {
    let images = real_images();
    for (name, network) in networks {
        let mut x = tch::no_grad(|| network.layers.stem(&images, Statistics::Running));
        let mut routed = 0;
        for (index, block) in network.layers.blocks.iter().enumerate() {
            if let Some(gate) = &block.gate {
                check(&format!("{name}, block {index}"), block, &x, gate);
                routed += 1;
            }
            x = tch::no_grad(|| block.full(&x, Statistics::Running).0);
        }
        let uncut = usize::from(name.starts_with("Lite"));
        assert_eq!(routed + uncut, network.layers.blocks.len(), "{name}: every block that can be is cut");
    }
}

#[test]
fn the_sum_of_the_sub_blocks_is_the_dense_block() {
    let networks = [
        ("Lite0, pretrained", pretrained()),
        ("Lite1", published("efficientnet_lite1", 2)),
        ("Lite2", published("efficientnet_lite2", 3)),
        ("ResNet-50", published("resnet50", 4)),
    ];
    each_routed_block(&networks, |name, block, x, _| {
        tch::no_grad(|| {
            let (dense, fused) = block.full(x, Statistics::Running);
            let shared = block.shared(x, &fused);
            let parts = (0..block.sub_blocks).map(|k| block.sub_block(&shared, k, &fused));
            let sum = block.finish(x, parts.reduce(|sum, part| sum + part).unwrap(), &fused);
            let gap = relative_gap(&sum, &dense);
            assert!(gap < 1e-5, "{name}: {gap}");
        });
    });
}

type RoutedForm =
    dyn Fn(&Block, &Tensor, Option<&Tensor>, &block::FusedBlock, &Tensor) -> routed::RoutedBlock;

#[test]
fn the_routed_stream_equals_computing_every_sub_block_and_masking() {
    let small = ResNet { blocks: [1, 2, 1, 1], width: 16, sub_blocks: 4, embedding_dim: None };
    let networks = [("Lite0, pretrained", pretrained()), ("ResNet", random(&Architecture::Resnet(small)))];
    each_routed_block(&networks, |name, block, x, gate| {
        let full = tch::no_grad(|| block.full(x, Statistics::Running).0);
        let upstream = Tensor::randn(full.size(), (Kind::Float, Device::Cpu));
        let run = |form: &RoutedForm| {
            let x = x.detach().set_requires_grad(true);
            let out = form(block, &x, Some(&full), &block.fuse(), gate);
            let loss = (&out.output * &upstream).sum(Kind::Float) + &out.gap;
            let leaves = [x.shallow_clone(), gate.shallow_clone(), block.project.weight.shallow_clone()];
            let gradients = Tensor::run_backward(&[loss], &leaves, false, false);
            let gap_only = form(block, &x, Some(&full), &block.fuse(), gate).gap;
            let gap_gradient = Tensor::run_backward(&[gap_only], &[gate], false, false);
            (out.output.detach(), out.gap.detach(), gradients, gap_gradient)
        };
        let (fast, fast_gap, fast_gradients, fast_gap_gradient) = run(&routed::fast);
        let (masked, masked_gap, masked_gradients, masked_gap_gradient) = run(&routed::masked);
        assert!(relative_gap(&fast, &masked) < 1e-5, "{name}");
        assert!(relative_gap(&fast_gap, &masked_gap) < 1e-5, "{name}");
        let gradients = fast_gradients.iter().chain(&fast_gap_gradient);
        let expected = masked_gradients.iter().chain(&masked_gap_gradient);
        for (which, (fast, masked)) in
            ["input", "router", "projection", "router by the gap"].iter().zip(gradients.zip(expected))
        {
            let gap = relative_gap(fast, masked);
            assert!(gap < 1e-4, "{name}, gradient of the {which}: {gap}");
        }
    });
}

/// With batch statistics, the routed stream and the full one share them, and running statistics move towards them.
#[test]
fn unfrozen_normalisations_follow_the_batch() {
    let architecture = preset("efficientnet_lite0").unwrap().architecture.with_sub_blocks(3);
    let Architecture::EfficientnetLite(net) = &architecture else { panic!("another family") };
    let options = NetworkOptions { bn_freeze: false, ..NetworkOptions::default() };
    let weights = fresh_weights(&architecture, 3);
    let network = ConvNetwork::efficientnet_lite(net, &weights, options, Device::Cpu).unwrap();
    let images = real_images();
    let stem = network.layers.stem.convolved(&images);
    let mean = stem.mean_dim([0i64, 2, 3].as_slice(), false, Kind::Float);
    let out = network.forward_train(&images);
    let running = network.params.get("_bn0.running_mean").unwrap();
    // They start at 0 and take in a hundredth of the batch.
    assert!(relative_gap(running, &(mean * 0.01)) < 1e-4);
    (out.full.embedding.sum(Kind::Float) + out.routed.embedding.sum(Kind::Float) + out.gap).backward();
    let gradient = network.params.get("_bn0.weight").unwrap().grad();
    assert!(gradient.isfinite().all().int64_value(&[]) == 1 && gradient.abs().max().double_value(&[]) > 0.0);
    assert!(network.params.get("_blocks.5._bn2.running_var").unwrap().isfinite().all().int64_value(&[]) == 1);

    // Evaluation leaves the statistics alone.
    let before = running.copy();
    let _ = tch::no_grad(|| network.embed(&images));
    assert_eq!(&before, network.params.get("_bn0.running_mean").unwrap());
}
