//! Small data sets and a small network for runs of the real program.

#![allow(dead_code, reason = "each test binary uses a part of this module")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dfml_models::{Architecture, Vit, save_safetensors};
use dfml_train::nn::fresh_weights;
use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The network as a setting: a transformer that takes milliseconds.
pub(crate) const ARCH: &str = "model.arch={ family = \"vit\", image_size = 32, patch_size = 8, dim = 24, depth = 2, heads = 3, \
                               mlp_hidden = 48, distilled = true, sub_blocks = 1 }";

/// Settings that go over any preset to make a run of seconds.
pub(crate) const SMALL: [&str; 7] = [
    ARCH,
    "data.image_size=32",
    "data.resize_short=36",
    "data.batch_size=12",
    "optimizer.epochs=2",
    "optimizer.warm_epochs=0.2",
    "run.device=cpu",
];

/// Weights of the network of [`ARCH`] as an initialisation would draw them.
pub(crate) fn write_weights(path: &Path) {
    let architecture = Architecture::Vit(Vit {
        image_size: 32,
        patch_size: 8,
        dim: 24,
        depth: 2,
        heads: 3,
        mlp_hidden: 48,
        distilled: true,
        sub_blocks: 1,
        embedding_dim: None,
    });
    save_safetensors(path, &fresh_weights(&architecture, 11), &Default::default()).expect("write");
}

/// Writes a picture of a class: a bar in its colour and place on a noisy ground.
pub(crate) fn draw(path: &Path, class: u64, view: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(class * 1009 + view);
    let ink = [0u64, 1, 2].map(|channel| (40 + (class * (37 + 50 * channel)) % 200) as u8);
    let (left, top) = ((class * 5 % 20) as u32 + rng.random_range(0..6), (class * 3 % 16) as u32);
    let picture = RgbImage::from_fn(44, 40, |x, y| {
        let inside = (left..left + 14).contains(&x) && (top..top + 18).contains(&y);
        Rgb(if inside { ink } else { [0; 3].map(|_: u8| rng.random_range(150..230)) })
    });
    std::fs::create_dir_all(path.parent().expect("below a folder")).expect("create folder");
    picture.save(path).expect("write picture");
}

/// A data set in SOP layout: `train` and `test` classes (from 1 on) with `views` pictures each.
pub(crate) fn sop(root: &Path, train: u64, test: u64, views: u64) {
    let list = |name: &str, classes: std::ops::RangeInclusive<u64>| {
        let mut text = "image_id class_id super_class_id path\n".to_owned();
        for class in classes {
            for view in 0..views {
                let path = format!("bar_final/{class}_{view}.JPG");
                draw(&root.join(&path), class, view);
                text += &format!("{} {class} 1 {path}\n", class * 100 + view);
            }
        }
        std::fs::write(root.join(name), text).expect("write list");
    };
    list("Ebay_train.txt", 1..=train);
    list("Ebay_test.txt", train + 1..=train + test);
}

/// A preset of the repository.
pub(crate) fn preset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../configs/train/{name}.toml"))
}

/// `dfml-train fit` with a preset, the small network and more settings.
pub(crate) fn fit(preset_name: &str, data: &Path, weights: &Path, out: &Path, settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfml-train"));
    command.arg("fit").arg("--config").arg(preset(preset_name)).arg("--data").arg(data);
    command.arg("--weights").arg(weights).arg("--out").arg(out);
    for setting in SMALL.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    command
}

/// Runs to the end; (success, what was printed on both streams).
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.success(), text)
}

/// Runs to the end, which must be a good one; what was printed.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let (success, text) = run(command);
    assert!(success, "{command:?}:\n{text}");
    text
}

/// Runs to the end, which must be an error; what was printed.
#[track_caller]
pub(crate) fn fail(command: &mut Command) -> String {
    let (success, text) = run(command);
    assert!(!success, "{command:?} did not fail:\n{text}");
    text
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
}
