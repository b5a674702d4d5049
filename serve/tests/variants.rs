//! Cheaper forms of a network against what they stand for: the official implementation's routed embeddings, networks that
//! hold a single sub-block, and the full network within the rounding of 16 and 8 bits.

#[path = "../../models/tests/common/mod.rs"]
mod golden;
mod support;

use std::path::Path;

use dfml_models::{
    Architecture, EfficientNetLite, ExportRequest, FileHash, Manifest, Tensor, TensorMap, Transform, Vit,
    onnx::{Network, Ranges, VariantError},
    write_model_dir,
};
use dfml_serve::engine::{Engine, Library, Provider, RangeObserver};
use golden::{golden_vits, with_prefix};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{jpeg, lineage, load};

fn export(dir: &Path, architecture: &Architecture, weights: &TensorMap, transform: Transform) -> Manifest {
    let request = ExportRequest {
        name: "tiny".to_owned(),
        architecture: architecture.clone(),
        weights,
        transform,
        lineage: lineage(0),
        reference: None,
    };
    write_model_dir(dir, &request).expect("a model directory")
}

/// Puts another network into a model directory and loads it.
fn with_network(dir: &Path, network: &Network) -> Engine {
    let mut manifest = Manifest::load(dir).expect("a manifest");
    network.write(manifest.model_path(dir)).expect("written");
    manifest.files.model = FileHash::of(dir, &manifest.files.model.name).expect("hashed");
    manifest.save(dir).expect("saved");
    load(dir, 1)
}

fn network(dir: &Path) -> Network {
    Network::read(dir.join("model.onnx")).expect("the exporter's own file")
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The lowest cosine of embeddings in the same order.
fn lowest(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| cosine(a, b)).fold(1.0, f64::min)
}

const LITE_CROP: u32 = 64;
const IMAGES: u32 = 6;

/// EfficientNet-Lite0 in three sub-blocks with weights that keep signals alive, and its routers.
fn lite() -> (Architecture, TensorMap) {
    let net = EfficientNetLite { sub_blocks: 3, embedding_dim: Some(32), ..EfficientNetLite::lite0() };
    let architecture = Architecture::EfficientnetLite(net);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut random = |shape: Vec<usize>, low: f32, high: f32| {
        let count = shape.iter().product();
        Tensor::new(shape, (0..count).map(|_| rng.random_range(low..high)).collect())
    };
    let mut weights = TensorMap::new();
    for spec in architecture.dense_tensors() {
        let fan_in: usize = spec.shape[1..].iter().product();
        let bound = (6.0 / fan_in.max(1) as f32).sqrt();
        let tensor = match spec.name.rsplit('.').next() {
            Some("running_var") => random(spec.shape, 0.9, 1.1),
            Some("weight") if spec.shape.len() == 1 => random(spec.shape, 0.9, 1.1),
            Some("running_mean") => Tensor::full(spec.shape, 0.0),
            Some("bias") => random(spec.shape, -0.2, 0.5),
            _ => random(spec.shape, -bound, bound),
        };
        weights.insert(spec.name, tensor);
    }
    (architecture, weights)
}

fn pixels(engine: &Engine) -> Vec<f32> {
    let mut pixels = vec![0.0; IMAGES as usize * engine.pixels_per_image()];
    for (number, slot) in pixels.chunks_exact_mut(engine.pixels_per_image()).enumerate() {
        engine.preprocess_into(&jpeg(number as u32), slot).expect("an image");
    }
    pixels
}

fn embed(engine: &Engine) -> Vec<Vec<f32>> {
    engine.embed_pixels(&pixels(engine), IMAGES as usize).expect("computed")
}

#[test]
fn half_precision_is_the_same_function_within_16_bits() {
    let dir = tempfile::tempdir().expect("folder");
    let (architecture, weights) = lite();
    export(dir.path(), &architecture, &weights, Transform::efficientnet_lite(LITE_CROP));
    let full = embed(&load(dir.path(), 1));
    let half = with_network(dir.path(), &network(dir.path()).to_half());
    let bytes = half.manifest().files.model.bytes;
    assert!(bytes < 8_000_000, "the file has {bytes} bytes, half of four million weights would be 8 million");
    let found = lowest(&full, &embed(&half));
    assert!(found > 0.9995, "Lite: cosine {found}");

    support::write_model(dir.path(), 3, None);
    let full = embed(&load(dir.path(), 1));
    let found = lowest(&full, &embed(&with_network(dir.path(), &network(dir.path()).to_half())));
    assert!(found > 0.9995, "ViT: cosine {found}");
}

#[test]
fn eight_bits_are_close_and_need_calibration_for_convolutions() {
    let dir = tempfile::tempdir().expect("folder");
    let (architecture, weights) = lite();
    let manifest = export(dir.path(), &architecture, &weights, Transform::efficientnet_lite(LITE_CROP));
    let engine = load(dir.path(), 1);
    let full = embed(&engine);
    let original = network(dir.path());
    assert!(matches!(original.to_int8(&Ranges::new()), Err(VariantError::NotCalibrated { .. })));

    let library = Library::load(None, Provider::Cpu).expect("ONNX Runtime");
    let mut observer = RangeObserver::open(&original, &manifest, &library, 1)
        .expect("opens")
        .expect("convolutions have ranges");
    observer.watch(&pixels(&engine), IMAGES as usize).expect("computed");
    let ranges = observer.into_ranges();
    assert!(ranges.values().all(|(low, high)| low <= high && low.is_finite() && high.is_finite()));
    let activated = ranges.iter().filter(|(name, _)| name.ends_with("relu6"));
    assert!(
        activated.clone().count() > 30
            && activated.clone().all(|(_, (low, high))| *low >= 0.0 && *high <= 6.0)
    );

    let small = with_network(dir.path(), &original.to_int8(&ranges).expect("calibrated"));
    let bytes = small.manifest().files.model.bytes;
    assert!(bytes < 5_000_000, "the file has {bytes} bytes, a byte per weight would be 4 million");
    let found = lowest(&full, &embed(&small));
    assert!(found > 0.97, "cosine {found}");
}

#[test]
fn a_transformer_in_eight_bits_needs_no_calibration() {
    let dir = tempfile::tempdir().expect("folder");
    // Wide enough that its products are worth the rounding.
    let net = Vit { image_size: 32, patch_size: 8, dim: 96, depth: 2, heads: 3, mlp_hidden: 192, ..tiny() };
    let architecture = Architecture::Vit(net);
    export(dir.path(), &architecture, &support::weights(&architecture, 8), support::transform());
    let full = embed(&load(dir.path(), 1));
    let original = network(dir.path());
    let small = with_network(dir.path(), &original.to_int8(&Ranges::new()).expect("needs no ranges"));
    let size = original_size(&architecture);
    assert!(small.manifest().files.model.bytes < size / 2, "not smaller than {size} bytes");
    let found = lowest(&full, &embed(&small));
    assert!(found > 0.99, "cosine {found}");
}

fn tiny() -> Vit {
    match support::architecture() {
        Architecture::Vit(net) => net,
        other => panic!("{other:?} is no transformer"),
    }
}

fn original_size(architecture: &Architecture) -> u64 {
    architecture.dense_tensors().iter().map(|spec| 4 * spec.shape.iter().product::<usize>() as u64).sum()
}

/// The official network's routed embeddings, router by router and token by token.
#[test]
fn routed_transformers_agree_with_the_official_implementation() {
    for (architecture, golden) in golden_vits() {
        let Architecture::Vit(net) = &architecture else { panic!("{architecture:?} is no transformer") };
        let mut weights = with_prefix(&golden, "factorized.");
        let dir = tempfile::tempdir().expect("folder");
        let side = net.image_size as u32;
        export(dir.path(), &architecture, &weights, Transform::imagenet(side, side));
        assert!(matches!(
            network(dir.path()).to_routed(&architecture, &weights),
            Err(VariantError::NoRouter { .. })
        ));
        weights.extend(with_prefix(&golden, "gate."));
        let routed = network(dir.path()).to_routed(&architecture, &weights).expect("has routers");
        let engine = with_network(dir.path(), &routed);
        let (images, expected) = (&golden["input.x"], &golden["train.m2"]);
        let found = engine.embed_pixels(&images.data, images.shape[0]).expect("computed");
        let expected: Vec<Vec<f32>> = expected.data.chunks_exact(net.dim).map(<[f32]>::to_vec).collect();
        let lowest = lowest(&found, &expected);
        assert!(lowest > 0.999_99, "{net:?}: cosine {lowest}");
    }
}

/// Dense weights whose block `prefix` is its sub-block `k` alone.
fn only(weights: &TensorMap, prefix: &str, k: usize) -> TensorMap {
    let mut weights = weights.clone();
    let project = weights.get_mut(&format!("{prefix}._project_conv.weight")).expect("a projection");
    let wide = project.shape[1];
    for (index, value) in project.data.iter_mut().enumerate() {
        if index % wide / (wide / 3) != k {
            *value = 0.0;
        }
    }
    // Its share of the shift; the running mean is zero.
    let shift = weights.get_mut(&format!("{prefix}._bn2.bias")).expect("a shift");
    shift.data.iter_mut().for_each(|value| *value /= 3.0);
    weights
}

#[test]
fn a_routed_image_goes_through_the_sub_block_of_its_router_and_no_other() {
    let (architecture, weights) = lite();
    let transform = Transform::efficientnet_lite(LITE_CROP);
    let blocks: Vec<String> = architecture
        .gate_tensors()
        .iter()
        .map(|gate| gate.name.trim_end_matches(".gate.weight").to_owned())
        .collect();
    assert_eq!(blocks.len(), 15, "all but the first block are cut");
    let routed = |gates: &TensorMap| {
        let dir = tempfile::tempdir().expect("folder");
        export(dir.path(), &architecture, &weights, transform.clone());
        let mut all = weights.clone();
        all.extend(gates.clone());
        let network = network(dir.path()).to_routed(&architecture, &all).expect("has routers");
        with_network(dir.path(), &network)
    };
    let dense = |weights: &TensorMap| {
        let dir = tempfile::tempdir().expect("folder");
        export(dir.path(), &architecture, weights, transform.clone());
        embed(&load(dir.path(), 1))
    };

    // Routers that see nothing choose the first sub-block, in every block.
    let blind: TensorMap = architecture
        .gate_tensors()
        .into_iter()
        .map(|gate| (gate.name, Tensor::full(gate.shape, 0.0)))
        .collect();
    let first = blocks.iter().fold(weights.clone(), |weights, block| only(&weights, block, 0));
    let found = lowest(&embed(&routed(&blind)), &dense(&first));
    assert!(found > 0.99999, "cosine {found}");

    // One router that tells the images apart: each of them as the dense network of its sub-block has it.
    let gate = format!("{}.gate.weight", blocks[3]);
    let candidates: Vec<_> = (0..3).map(|k| dense(&only(&weights, &blocks[3], k))).collect();
    // Random routers, until there is one that does.
    let (engine, found) = (0..30)
        .find_map(|seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut tensor = blind[&gate].clone();
            tensor.data.iter_mut().for_each(|value| *value = rng.random_range(-1.0..1.0));
            // The other blocks have no router, and stay whole.
            let engine = routed(&TensorMap::from_iter([(gate.clone(), tensor)]));
            let found = embed(&engine);
            let mut chosen = Vec::new();
            for (image, vector) in found.iter().enumerate() {
                let cosines = candidates.iter().map(|candidate| cosine(vector, &candidate[image]));
                let (k, best) = cosines.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).expect("three");
                assert!(best > 0.99999, "image {image} is like none of the sub-blocks: {best}");
                chosen.push(k);
            }
            chosen.iter().any(|k| *k != chosen[0]).then_some((engine, found))
        })
        .expect("one of thirty routers tells the images apart");
    // Alone and in a batch it is the same.
    let all = pixels(&engine);
    for (image, vector) in found.iter().enumerate() {
        let alone = &all[image * engine.pixels_per_image()..][..engine.pixels_per_image()];
        let alone = engine.embed_pixels(alone, 1).expect("computed");
        assert!(cosine(&alone[0], vector) > 0.999_999, "image {image} depends on its batch");
    }
}
