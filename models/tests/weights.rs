//! Weight files: every container PyTorch has used, safetensors, and damaged ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dfml_models::{Tensor, TensorMap, WeightsError, load_metadata, load_weights, save_safetensors};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints").join(name)
}

/// What tests/data/checkpoints/make_checkpoints.py wrote.
fn expected() -> TensorMap {
    let tensors: [(&str, &[usize], &[f32]); 7] = [
        ("f32", &[2, 3], &[0.0, 1.5, -2.25, 3.0, 4.0, 5.0]),
        ("transposed", &[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        ("offset", &[2], &[7.0, 8.0]),
        ("f16", &[2], &[0.5, -65504.0]),
        ("bf16", &[2], &[1.0, -3.0]),
        ("f64", &[1], &[0.1]),
        ("bn.num_batches_tracked", &[], &[123456.0]),
    ];
    tensors.map(|(name, shape, data)| (name.to_owned(), Tensor::new(shape.to_vec(), data.to_vec()))).into()
}

fn assert_same(found: &TensorMap, expected: &TensorMap) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, tensor) in expected {
        assert_eq!(found[name].shape, tensor.shape, "{name}");
        assert_eq!(found[name].data, tensor.data, "{name}");
    }
}

#[test]
fn reads_every_pytorch_container() {
    for name in ["legacy.pth", "zip.pth", "nested.pth"] {
        let found = load_weights(data(name)).unwrap_or_else(|error| panic!("{error}"));
        assert_same(&found, &expected());
    }
}

#[test]
fn executes_nothing_and_names_the_file() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("hostile.pth");
    std::fs::copy(data("hostile.pth"), &path).unwrap();
    let error = load_weights(&path).unwrap_err();
    assert!(error.to_string().contains("hostile.pth"), "{error}");
    assert!(!Path::new("executed").exists() && !work.path().join("executed").exists());
}

#[test]
fn refuses_a_small_file_that_claims_huge_tensors() {
    let error = load_weights(data("expand.pth")).unwrap_err();
    assert!(matches!(error, WeightsError::Pytorch { .. }), "{error}");
    assert!(error.to_string().contains("far more elements"), "{error}");
}

#[test]
fn names_a_missing_file_and_an_unknown_format() {
    let error = load_weights("no/such/file.pth").unwrap_err();
    assert!(
        matches!(error, WeightsError::Io(_)) && error.to_string().contains("no/such/file.pth"),
        "{error}"
    );

    let work = tempfile::tempdir().unwrap();
    for (name, content) in [("text.pth", "these are not weights"), ("empty.pth", ""), ("short.pth", "\u{0}")]
    {
        let path = work.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = load_weights(&path).unwrap_err();
        assert!(matches!(error, WeightsError::UnknownFormat { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// No damage may panic, hang or take much memory. Errors are expected; so is success with other numbers.
#[test]
fn survives_flipped_bits_and_cuts() {
    let work = tempfile::tempdir().unwrap();
    let safetensors = work.path().join("intact.safetensors");
    save_safetensors(&safetensors, &expected(), &BTreeMap::new()).unwrap();
    let path = work.path().join("damaged");
    let (mut attempts, mut failures) = (0, 0);
    let mut attempt = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        attempts += 1;
        failures += usize::from(load_weights(&path).is_err());
    };
    for source in [data("legacy.pth"), data("zip.pth"), data("nested.pth"), safetensors] {
        let intact = std::fs::read(source).unwrap();
        // Every third byte, because writing thousands of files is slow; 3 and 8 have no common factor, so every
        // bit position comes up.
        for at in (0..intact.len()).step_by(3) {
            let mut damaged = intact.clone();
            damaged[at] ^= 1 << (at % 8);
            attempt(&damaged);
        }
        for length in (0..intact.len()).step_by(11) {
            attempt(&intact[..length]);
        }
    }
    assert!(failures > attempts / 4, "only {failures} of {attempts} damaged files were noticed");
}

#[test]
fn safetensors_round_trip_keeps_every_bit_and_the_metadata() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("weights.safetensors");
    let mut tensors = expected();
    tensors.insert("odd".to_owned(), Tensor::new(vec![3], vec![f32::MIN_POSITIVE / 2.0, -0.0, f32::MAX]));
    let metadata = BTreeMap::from([("epoch".to_owned(), "7".to_owned())]);
    save_safetensors(&path, &tensors, &metadata).unwrap();
    save_safetensors(&path, &tensors, &metadata).unwrap(); // replaces what is there

    assert_same(&load_weights(&path).unwrap(), &tensors);
    assert!(load_weights(&path).unwrap()["odd"].data[1].is_sign_negative());
    assert_eq!(load_metadata(&path).unwrap(), metadata);
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 1, "a temporary file was left behind");
    let error = save_safetensors(work.path().join("no/such/dir/x"), &tensors, &metadata).unwrap_err();
    assert!(error.to_string().contains("no/such/dir"), "{error}");
}
