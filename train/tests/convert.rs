//! `dfml-train convert` as a user runs it: against the official script's files, and on files that do not fit.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod golden_support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dfml_models::{Tensor, TensorMap, load_metadata, load_weights, save_safetensors};
use golden_support::networks;

fn convert(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfml-train"));
    command.arg("convert").args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn succeeds(arguments: &[&str]) -> String {
    let output = convert(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    errors
}

#[test]
fn names_and_values_are_those_of_the_official_script() {
    let work = tempfile::tempdir().unwrap();
    for golden in networks() {
        let [dense, cut, back, again] =
            ["dense", "cut", "back", "again"].map(|name| work.path().join(format!("{name}.safetensors")));
        let (weights, expected) = (golden.weights(&["dense."]), golden.weights(&["factorized."]));
        save_safetensors(&dense, &weights, &BTreeMap::new()).unwrap();
        let net = golden.architecture();
        let (heads, k) = (net.heads.to_string(), net.sub_blocks.to_string());
        succeeds(&[text(&dense), text(&cut), "--heads", &heads, "--sub-blocks", &k]);
        assert!(load_weights(&cut).unwrap() == expected, "{}", golden.name);

        // The file says itself what it is, and K comes from its tensors.
        succeeds(&[text(&cut), text(&again)]);
        assert!(load_weights(&again).unwrap() == expected, "{}", golden.name);
        succeeds(&[text(&cut), text(&back), "--fold"]);
        let folded = load_weights(&back).unwrap();
        assert!(folded.keys().eq(weights.keys()), "{}", golden.name);
        for (name, tensor) in &weights {
            for (a, b) in folded[name].data.iter().zip(&tensor.data) {
                assert!(a.to_bits().abs_diff(b.to_bits()) <= 1, "{} {name}: {a} instead of {b}", golden.name);
            }
        }
    }
}

/// The published weights, in PyTorch's legacy container, with a classifier and counters that no embedding needs.
#[test]
fn a_legacy_checkpoint_of_a_convolutional_network() {
    let weights = dfml_models::cache_dir().join("weights/efficientnet-lite0.pth");
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("lite0.safetensors");
    let errors = succeeds(&[text(&weights), text(&out)]);
    for named in ["_fc.weight", "_fc.bias", "_bn0.num_batches_tracked"] {
        assert!(errors.contains(named), "{named} is not listed: {errors}");
    }
    let cut = load_weights(&out).unwrap();
    assert_eq!(cut["_blocks.1.sub3._expand_conv.weight"].shape, [32, 16, 1, 1]);
    assert!(load_metadata(&out).unwrap()["architecture"].contains("lite0"));
}

/// A zip checkpoint with its weights under "model", as DeiT's are published, of a transformer that timm names.
#[test]
fn zip_and_legacy_checkpoints_of_a_transformer() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tests/data/checkpoints"));
    let work = tempfile::tempdir().unwrap();
    let converted = ["vit_zip.pth", "vit_legacy.pth"].map(|name| {
        let out = work.path().join(format!("{name}.safetensors"));
        let errors = succeeds(&[text(&folder.join(name)), text(&out), "--heads", "3"]);
        assert!(errors.contains("kept as they are: head.bias, head.weight"), "{errors}");
        load_weights(&out).unwrap()
    });
    assert!(converted[0] == converted[1]);
    let cut = &converted[0];
    // make_checkpoints.py numbers the elements of every tensor: row 4, column 2 of 18 x 6 is 26. Sub-block 2 of 3 has the
    // rows 2 and 3, 8 and 9, 14 and 15.
    let part = &cut["blocks.0.attn.qkv2.weight"];
    assert_eq!(part.shape, [6, 6]);
    assert_eq!([0, 6, 12, 18, 24].map(|at| part.data[at]), [12.0, 18.0, 48.0, 54.0, 84.0]);
    assert_eq!(cut["blocks.0.mlp3.fc2.bias"].data[..3], [0.0, 1.0 / 3.0, 2.0 / 3.0]);
}

#[test]
fn what_does_not_fit_is_listed_and_nothing_is_written() {
    let work = tempfile::tempdir().unwrap();
    let golden = &networks()[0];
    let heads = golden.architecture().heads.to_string();
    let [input, out] = ["in.safetensors", "out.safetensors"].map(|name| work.path().join(name));
    let mut weights: TensorMap = golden.weights(&["dense."]);
    weights.remove("blocks.0.attn.proj.bias");
    weights.remove("norm.weight");
    weights.insert("blocks.0.mlp.fc1.bias".to_owned(), Tensor::full(vec![5], 0.0));
    weights.insert("fc_norm.weight".to_owned(), Tensor::full(vec![5], 0.0));
    save_safetensors(&input, &weights, &BTreeMap::new()).unwrap();
    let output = convert(&[text(&input), text(&out), "--heads", &heads]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    for named in [
        "missing: blocks.0.attn.proj.bias",
        "missing: norm.weight",
        "of another shape: blocks.0.mlp.fc1.bias is [5]",
        "unknown: fc_norm.weight",
        "2 tensors missing, 1 of another shape, 1 unknown",
    ] {
        assert!(errors.contains(named), "{named} is not in: {errors}");
    }
    assert!(!out.exists());

    // Heads of another length than 64 cannot be guessed, and K must divide.
    save_safetensors(&input, &golden.weights(&["dense."]), &BTreeMap::new()).unwrap();
    let answer = |arguments: &[&str]| {
        let output = convert(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let k = (golden.architecture().heads + 1).to_string();
    let errors = answer(&[text(&input), text(&out), "--heads", &heads, "--sub-blocks", &k]);
    assert!(errors.contains("does not divide heads"), "{errors}");
    let errors = answer(&[text(&input), text(&out), "--arch", "vit_huge"]);
    assert!(errors.contains("vit_huge") && errors.contains("deit_small_patch16_224"), "{errors}");
    assert!(!out.exists());
}
