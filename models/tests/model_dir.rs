//! Model directories: what is written can be read, and what was tampered with is named.

mod common;

use std::path::Path;

use common::{golden_vits, with_prefix};
use dfml_models::{
    Architecture, ExportError, ExportRequest, Lineage, Manifest, ManifestError, Parity, Reference, RgbImage8,
    TensorMap, Transform, Vit, sha256_file, write_model_dir,
};

fn lineage() -> Lineage {
    Lineage {
        weights_sha256: "ab".repeat(32),
        data_sha256: None,
        config_sha256: Some("cd".repeat(32)),
        checkpoint_sha256: None,
        seed: Some(7),
        producer: "a test".to_owned(),
    }
}

fn reference(side: u32, dim: usize) -> Reference {
    let image = |seed: u32| {
        let data = (0..3 * side * side).map(|i| (i * 31 + seed * 17) as u8).collect();
        RgbImage8::new(side, side, data)
    };
    Reference {
        pixels: vec![image(1), image(2)],
        embeddings: vec![vec![0.25; dim], (0..dim).map(|i| i as f32 / 7.0).collect()],
    }
}

/// A tiny ViT, written from its factorised weights.
fn request<'a>(net: &Vit, weights: &'a TensorMap) -> ExportRequest<'a> {
    ExportRequest {
        name: "tiny".to_owned(),
        architecture: Architecture::Vit(net.clone()),
        weights,
        transform: Transform::imagenet(side(net) + 8, side(net)),
        lineage: lineage(),
        reference: Some(reference(side(net), net.dim)),
    }
}

/// Side in pixels of the images that the network takes.
fn side(net: &Vit) -> u32 {
    net.image_size.try_into().expect("a small image")
}

/// The first network of which there are reference numbers, whatever its size, and those numbers.
fn golden() -> (Vit, TensorMap) {
    match golden_vits().swap_remove(0) {
        (Architecture::Vit(net), golden) => (net, golden),
        (other, _) => panic!("{other:?} is no transformer"),
    }
}

fn tiny() -> (Vit, TensorMap) {
    let (net, golden) = golden();
    let mut weights = with_prefix(&golden, "factorized.");
    weights.extend(with_prefix(&golden, "gate."));
    (net, weights)
}

fn written(dir: &Path) -> (Vit, Manifest) {
    let (net, weights) = tiny();
    let manifest = write_model_dir(dir, &request(&net, &weights)).unwrap_or_else(|error| panic!("{error}"));
    (net, manifest)
}

/// Replaces text in the manifest.
fn edit(dir: &Path, from: &str, to: &str) {
    let path = dir.join("manifest.json");
    let text = std::fs::read_to_string(&path).expect("the manifest");
    assert!(text.contains(from), "no {from} in {text}");
    std::fs::write(path, text.replacen(from, to, 1)).expect("the manifest");
}

#[test]
fn a_model_directory_reads_back_as_it_was_written() {
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("deep/model");
    let (net, mut manifest) = written(&dir);
    assert_eq!(Manifest::load(&dir).unwrap(), manifest);
    assert_eq!(manifest.load_reference(&dir).unwrap(), Some(reference(side(&net), net.dim)));
    assert_eq!(manifest.files.model.sha256, sha256_file(manifest.model_path(&dir)).unwrap());
    assert_eq!(manifest.embedding_dim, net.dim);

    manifest.parity = Some(Parity {
        images: 2,
        min_cosine: 0.999_999,
        runtime: "some runtime 1.0".to_owned(),
        provider: "CPU".to_owned(),
    });
    manifest.save(&dir).unwrap();
    assert_eq!(Manifest::load(&dir).unwrap(), manifest);
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["manifest.json", "model.onnx", "reference.safetensors"]);
}

#[test]
fn dense_and_factorised_weights_make_nearly_the_same_file() {
    let work = tempfile::tempdir().unwrap();
    let (net, golden) = golden();
    let (dense, factorized) = (with_prefix(&golden, "dense."), with_prefix(&golden, "factorized."));
    let [a, b] = [("a", &dense), ("b", &factorized)].map(|(name, weights)| {
        let dir = work.path().join(name);
        let manifest = write_model_dir(&dir, &request(&net, weights)).unwrap();
        std::fs::read(manifest.model_path(&dir)).unwrap()
    });
    assert_eq!(a.len(), b.len());
    // Only the two biases of a block that the conversion divides by K may differ, and only in their last bits.
    let different = a.iter().zip(&b).filter(|(x, y)| x != y).count();
    assert!(different < 2 * net.depth * net.dim, "{different} bytes differ");
}

#[test]
fn a_changed_file_is_named_with_both_hashes() {
    let work = tempfile::tempdir().unwrap();
    let (_, manifest) = written(work.path());
    let path = manifest.model_path(work.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Manifest::load(work.path()).unwrap_err();
    let found = sha256_file(&path).unwrap();
    for word in ["model.onnx", manifest.files.model.sha256.as_str(), found.as_str()] {
        assert!(error.to_string().contains(word), "{error}");
    }
    std::fs::write(&path, &bytes[..middle]).unwrap();
    let error = Manifest::load(work.path()).unwrap_err();
    assert!(
        matches!(error, ManifestError::Size { .. }) && error.to_string().contains("model.onnx"),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    let error = Manifest::load(work.path()).unwrap_err();
    assert!(error.to_string().contains("model.onnx"), "{error}");
}

#[test]
fn what_the_manifest_may_not_say_is_refused_by_name() {
    let net = golden().0;
    let (dim, heads, short) = (net.dim, net.heads, side(&net) + 8);
    // One more than the dimensions divides no such number.
    let odd = dim + 1;
    let number = |key: &str, value: usize| format!("\"{key}\": {value}");
    let replaced =
        |key: &str, from: usize, to: usize, word: String| (number(key, from), number(key, to), word);
    let plain = [
        ("\"format_version\": 1", "\"format_version\": 2", "version 2 is not supported"),
        ("\"format_version\": 1", "\"format_version\": \"1\"", "not supported"),
        ("\"format_version\"", "\"version\"", "no format_version"),
        ("\"name\": \"tiny\"", "\"name\": \"tiny\", \"color\": 3", "color"),
        ("\"heads\": ", "\"tails\": 6, \"heads\": ", "tails"),
        ("\"family\": \"vit\"", "\"family\": \"perceptron\"", "perceptron"),
        ("\"name\": \"model.onnx\"", "\"name\": \"../model.onnx\"", "not a plain file name"),
        ("\"name\": \"model.onnx\"", "\"name\": \"/etc/passwd\"", "not a plain file name"),
        ("\"seed\": 7", "\"seed\": -7", "line "),
        ("{", "", "manifest.json"),
    ];
    let plain = plain.map(|(from, to, word)| (from.to_owned(), to.to_owned(), word.to_owned()));
    let of_sizes = [
        replaced("heads", heads, odd, format!("heads ({odd}) does not divide dim ({dim})")),
        replaced("embedding_dim", dim, odd, format!("embedding_dim is {odd}")),
        replaced("resize_short", short as usize, 0, "resize_short is 0".to_owned()),
    ];
    for (from, to, word) in plain.iter().chain(&of_sizes) {
        let work = tempfile::tempdir().unwrap();
        written(work.path());
        edit(work.path(), from, to);
        let error = Manifest::load(work.path()).unwrap_err().to_string();
        assert!(error.contains("manifest.json") && error.contains(word), "{from} -> {to}: {error}");
    }
    let work = tempfile::tempdir().unwrap();
    let error = Manifest::load(work.path()).unwrap_err().to_string();
    assert!(error.contains("manifest.json"), "{error}");
}

#[test]
fn the_fingerprint_follows_the_function_and_nothing_else() {
    let work = tempfile::tempdir().unwrap();
    let (_, manifest) = written(work.path());
    let fingerprint = manifest.fingerprint();
    assert_eq!(fingerprint.len(), 64);
    let renamed = Manifest { name: "other".to_owned(), ..manifest.clone() };
    assert_eq!(renamed.fingerprint(), fingerprint);
    let mut resized = manifest.clone();
    resized.transform.resize_short += 1;
    assert_ne!(resized.fingerprint(), fingerprint);
    let mut retrained = manifest;
    retrained.files.model.sha256 = "00".repeat(32);
    assert_ne!(retrained.fingerprint(), fingerprint);
}

#[test]
fn sizes_that_do_not_fit_are_refused_before_anything_is_written() {
    let work = tempfile::tempdir().unwrap();
    let (net, weights) = tiny();
    let (size, dim) = (side(&net), net.dim);
    let good = request(&net, &weights);
    let dir = work.path().join("model");
    let fails = |request: ExportRequest<'_>| {
        let error = write_model_dir(&dir, &request).unwrap_err();
        assert!(!dir.exists());
        error
    };
    let error = fails(ExportRequest { transform: Transform::imagenet(size + 8, size + 8), ..good.clone() });
    let named = error.to_string().contains(&format!("{size}x{size}"));
    assert!(matches!(error, ExportError::InputSize { .. }) && named, "{error}");
    let error = fails(ExportRequest { reference: Some(reference(size - 1, dim)), ..good.clone() });
    assert!(matches!(error, ExportError::ReferenceSize { .. }), "{error}");
    let error = fails(ExportRequest { reference: Some(reference(size, dim - 1)), ..good.clone() });
    assert!(matches!(error, ExportError::ReferenceSize { .. }), "{error}");
    let mut incomplete = weights.clone();
    let removed = format!("blocks.{}.mlp2.fc1.bias", net.depth - 1);
    incomplete.remove(&removed);
    let error = fails(ExportRequest { weights: &incomplete, ..good });
    assert!(error.to_string().contains(&removed), "{error}");
}

#[test]
fn a_damaged_reference_is_an_error() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("reference.safetensors");
    let intact = reference(4, 3);
    intact.save(&path).unwrap();
    assert_eq!(Reference::load(&path).unwrap(), intact);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    assert!(Reference::load(&path).unwrap_err().to_string().contains("reference.safetensors"));

    let uneven = Reference { embeddings: vec![vec![1.0], vec![1.0, 2.0]], ..intact.clone() };
    assert!(uneven.save(&path).unwrap_err().to_string().contains("differ in length"));
    let empty = Reference { pixels: vec![], embeddings: vec![] };
    assert!(empty.save(&path).unwrap_err().to_string().contains("no images"));
}
