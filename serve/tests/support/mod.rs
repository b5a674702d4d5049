//! A tiny random model and images for it, so that the tests need nothing but ONNX Runtime.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::path::{Path, PathBuf};

use dfml_models::{
    Architecture, ExportRequest, Interpolation, Lineage, Manifest, Reference, Tensor, TensorMap, Transform,
    Vit, write_model_dir,
};
use dfml_serve::engine::{Engine, EngineOptions, Provider};
use image::{ImageFormat, Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Side of the tiny model's crop.
pub(crate) const CROP: u32 = 32;

/// A vision transformer of two blocks.
pub(crate) fn architecture() -> Architecture {
    Architecture::Vit(Vit {
        image_size: CROP as usize,
        patch_size: 8,
        dim: 24,
        depth: 2,
        heads: 3,
        mlp_hidden: 48,
        distilled: false,
        sub_blocks: 1,
        embedding_dim: None,
    })
}

/// Weights drawn from a fixed seed.
pub(crate) fn weights(architecture: &Architecture, seed: u64) -> TensorMap {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let random = |spec: dfml_models::TensorSpec| {
        let values = spec.shape.iter().product();
        // Variances are positive; the scale of normalisations is near 1, so that signals neither die nor explode.
        let range = match spec.name.rsplit('.').next() {
            Some("running_var") => 0.5..1.5,
            Some("weight") if spec.shape.len() == 1 => 0.7..1.3,
            _ => -0.3f32..0.3,
        };
        let data = (0..values).map(|_| rng.random_range(range.clone())).collect();
        (spec.name, Tensor::new(spec.shape, data))
    };
    architecture.dense_tensors().into_iter().map(random).collect()
}

pub(crate) fn transform() -> Transform {
    Transform {
        resize_short: 36,
        crop_height: CROP,
        crop_width: CROP,
        interpolation: Interpolation::BilinearAntialias,
        mean: [127.0; 3],
        std: [128.0; 3],
    }
}

pub(crate) fn lineage(seed: u64) -> Lineage {
    Lineage {
        weights_sha256: "0".repeat(64),
        data_sha256: None,
        config_sha256: None,
        checkpoint_sha256: None,
        seed: Some(seed),
        producer: "test".to_owned(),
    }
}

/// Writes the model directory `dir`.
pub(crate) fn write_model(dir: &Path, seed: u64, reference: Option<Reference>) -> Manifest {
    let architecture = architecture();
    let weights = weights(&architecture, seed);
    let request = ExportRequest {
        name: "tiny".to_owned(),
        architecture,
        weights: &weights,
        transform: transform(),
        lineage: lineage(seed),
        reference,
    };
    write_model_dir(dir, &request).expect("a model directory")
}

/// Loads on the CPU, with `sessions` sessions of one thread.
pub(crate) fn load(dir: &Path, sessions: usize) -> Engine {
    let options = EngineOptions {
        provider: Provider::Cpu,
        threads: Some(sessions),
        sessions: Some(sessions),
        ..EngineOptions::default()
    };
    Engine::load(dir, &options).expect("the model loads")
}

/// An image that no other number gives: stripes and a gradient, not square.
pub(crate) fn picture(number: u32) -> RgbImage {
    RgbImage::from_fn(60 + number % 7, 44 + number % 5, |x, y| {
        let stripe = if (x / (2 + number % 9) + y / (3 + number % 4)).is_multiple_of(2) { 220 } else { 30 };
        Rgb([stripe, ((x * 3 + number * 17) % 256) as u8, ((y * 5 + number * 29) % 256) as u8])
    })
}

/// Writes `picture(number)` as a JPEG.
pub(crate) fn write_jpeg(path: &Path, number: u32) {
    picture(number).save_with_format(path, ImageFormat::Jpeg).expect("a JPEG");
}

/// The picture as bytes of a JPEG file.
pub(crate) fn jpeg(number: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture(number).write_to(&mut bytes, ImageFormat::Jpeg).expect("a JPEG");
    bytes.into_inner()
}

/// A list file of `classes` classes with two images each, in `dir`; returns the list's path.
pub(crate) fn write_catalogue(dir: &Path, classes: u32) -> PathBuf {
    let mut list = String::from("image_id class_id super_class_id path\n");
    std::fs::create_dir_all(dir.join("thing_final")).expect("folder");
    for class in 0..classes {
        for view in 0..2 {
            let name = format!("thing_final/{class}_{view}.jpg");
            write_jpeg(&dir.join(&name), class * 10 + view);
            list += &format!("{} {class} 1 {name}\n", class * 2 + view + 1);
        }
    }
    let path = dir.join("list.txt");
    std::fs::write(&path, list).expect("list");
    path
}
