//! Convolutional networks that nobody ships weights of, through the real programs: what ONNX Runtime computes from the exported model
//! is what libtorch computed.

use std::{path::Path, process::Command};

use dfml_models::{Architecture, Tensor, TensorMap, preset, save_safetensors};
use dfml_tests::{binaries, pictures};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CONFIG: &str = r#"
name = "parity"

[data]
image_size = 64
resize_short = 72
batch_size = 8

[model]
embedding_dim = 8

[optimizer]
epochs = 1
learning_rate = 1e-4

[run]
select_on = "last"
evaluate_before = false
"#;

#[test]
fn resnet_50_and_the_larger_efficientnets_agree_with_libtorch() {
    let place = tempfile::tempdir().expect("temporary folder");
    let shop = place.path().join("shop");
    pictures::write_list(&shop, "Ebay_train.txt", &[0, 1], 0..8);
    pictures::write_list(&shop, "Ebay_test.txt", &[2, 3], 0..3);
    let config = place.path().join("config.toml");
    fs_err::write(&config, CONFIG).expect("write");
    for (name, k) in [("resnet50", 4), ("efficientnet_lite1", 3), ("efficientnet_lite2", 3)] {
        let architecture = preset(name).expect("a published network").architecture;
        let (weights, run) = (place.path().join(format!("{name}.safetensors")), place.path().join(name));
        save_safetensors(&weights, &random(&architecture), &Default::default()).expect("write");
        let mut fit = Command::new(binaries::dfml_train());
        fit.arg("fit").arg("--config").arg(&config).arg("--data").arg(&shop);
        fit.arg("--weights").arg(&weights).arg("--out").arg(&run);
        fit.arg("--set").arg(format!("model.arch={name}")).arg("--set").arg(format!("model.sub_blocks={k}"));
        succeed(&mut fit);
        let model = run.join("model");
        succeed(Command::new(binaries::dfml()).arg("verify").arg(&model));
        let cosine = recorded_cosine(&model);
        assert!(cosine >= 0.99999, "{name}: cosine {cosine} between ONNX Runtime and libtorch");
    }
}

/// Weights that keep signals alive through many layers: uniform with variance 2 / inputs, normalisations near the identity. The last
/// one of a bottleneck is small, as residual networks are started, so that sums over blocks stay bounded.
fn random(architecture: &Architecture) -> TensorMap {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut draw = |shape: &[usize], low: f32, high: f32| {
        let count = shape.iter().product();
        Tensor::new(shape.to_vec(), (0..count).map(|_| rng.random_range(low..high)).collect())
    };
    let tensors = architecture.dense_tensors().into_iter().map(|spec| {
        let bound = (6.0 / spec.shape[1..].iter().product::<usize>().max(1) as f32).sqrt();
        let tensor = match spec.name.rsplit('.').next() {
            Some("running_var") => draw(&spec.shape, 0.9, 1.1),
            Some("weight") if spec.name.contains("bn3") => draw(&spec.shape, 0.2, 0.3),
            Some("weight") if spec.shape.len() == 1 => draw(&spec.shape, 0.9, 1.1),
            Some("weight") => draw(&spec.shape, -bound, bound),
            _ => draw(&spec.shape, -0.2, 0.2),
        };
        (spec.name, tensor)
    });
    tensors.collect()
}

/// What `dfml verify` wrote into the manifest.
fn recorded_cosine(model: &Path) -> f64 {
    let text = fs_err::read_to_string(model.join("manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    manifest["parity"]["min_cosine"].as_f64().expect("verify records what it found")
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}\n{said}", output.status);
}
