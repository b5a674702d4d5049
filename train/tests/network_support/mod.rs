//! Networks of every kind that take seconds, and real pictures for them.

#![allow(dead_code, reason = "each test binary uses a part of this module")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::path::PathBuf;

use dfml_models::{Architecture, ResNet, TensorMap, Transform, Vit, preset};
use dfml_train::config::BadImage;
use dfml_train::data::eval_pixels;
use dfml_train::nn::fresh_weights;
use tch::{Device, Tensor};

pub(crate) const SIDE: u32 = 64;

/// Every published transformer and convolutional network, at a small image size and with fewer blocks where they are all
/// alike, so that the tests take seconds.
pub(crate) fn backbones() -> Vec<(String, Architecture)> {
    let vits = ["vit_tiny", "deit_tiny_distilled", "vit_small", "deit_small_distilled"];
    let mut out: Vec<(String, Architecture)> = vits.iter().map(|name| small_vit(name, 2)).collect();
    out.extend(["vit_base", "deit_base_distilled"].iter().map(|name| small_vit(name, 1)));
    out.push(published("efficientnet_lite0", 3));
    let resnet = ResNet { blocks: [1, 2, 1, 1], sub_blocks: 2, ..ResNet::resnet50() };
    out.push(("resnet50, fewer blocks".to_owned(), Architecture::Resnet(resnet)));
    let tiny = ResNet { blocks: [1; 4], width: 8, sub_blocks: 4, embedding_dim: Some(24) };
    out.push(("a tiny ResNet with an embedding layer".to_owned(), Architecture::Resnet(tiny)));
    let (_, vit) = small_vit("vit_tiny", 2);
    out.push(("a ViT with an embedding layer".to_owned(), vit.with_embedding_layer(Some(40))));
    out.extend([published("efficientnet_lite1", 2), published("efficientnet_lite2", 3)]);
    out
}

pub(crate) fn published(name: &str, k: usize) -> (String, Architecture) {
    (name.to_owned(), preset(name).unwrap().architecture.with_sub_blocks(k))
}

pub(crate) fn small_vit(name: &str, depth: usize) -> (String, Architecture) {
    match preset(name).unwrap().architecture {
        Architecture::Vit(net) => {
            let net = Vit { image_size: SIDE as usize, depth, sub_blocks: 3, ..net };
            (name.to_owned(), Architecture::Vit(net))
        }
        other => panic!("{name} is {other:?}"),
    }
}

/// Weights with no number at its start value: a bias that is 0 hides mistakes.
pub(crate) fn weights(architecture: &Architecture) -> TensorMap {
    let mut weights = fresh_weights(architecture, 5);
    for (place, tensor) in weights.values_mut().enumerate() {
        for (i, value) in tensor.data.iter_mut().enumerate() {
            *value += 0.02 * (0.37 * i as f32 + place as f32).sin();
        }
    }
    weights
}

pub(crate) fn real_images() -> Tensor {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/preprocess"));
    let files = ["photo.jpg", "landscape.png", "portrait.png", "small.png"].map(|file| folder.join(file));
    eval_pixels(&files, &Transform::imagenet(SIDE + 8, SIDE), BadImage::Error, Device::Cpu).unwrap().pixels
}
