//! Whole runs of `dfml-train` on small data sets in the layouts of the published ones.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{draw, fail, fit, json, sop, succeed, write_weights};

/// What a run leaves behind.
const FILES: [&str; 10] = [
    "config.toml",
    "metrics.jsonl",
    "metrics.json",
    "checkpoint.safetensors",
    "loss.safetensors",
    "plots/loss.svg",
    "plots/routers.svg",
    "report.html",
    "model/model.onnx",
    "model/manifest.json",
];

#[track_caller]
fn check_run(out: &Path) -> Value {
    for file in FILES {
        assert!(out.join(file).is_file(), "no {file}");
    }
    let report = json(&out.join("metrics.json"));
    let recall = report["after"]["retrieval"]["recall_at_k"]["1"].as_f64().expect("Recall@1");
    assert!((0.0..=1.0).contains(&recall), "{report}");
    assert!(report["after"]["clustering"]["ami"].is_f64());
    assert_eq!(report["epochs"].as_array().map(Vec::len), Some(2));
    report
}

#[test]
fn a_sop_folder_trains_evaluates_exports_and_evaluates_again_the_same() {
    let place = tempfile::tempdir().unwrap();
    let (data, weights, out) =
        (place.path().join("data"), place.path().join("w.safetensors"), place.path().join("run"));
    sop(&data, 8, 4, 6);
    write_weights(&weights);
    let text = succeed(&mut fit("sop", &data, &weights, &out, &[]));
    assert!(text.contains("this is not Stanford Online Products as published"), "{text}");
    assert!(text.contains("images/s"), "progress has a rate: {text}");
    let report = check_run(&out);
    assert_eq!(report["selected_on"], "validation");
    // Six of eight classes train; two are held back.
    assert_eq!((report["classes"].as_u64(), report["images"].as_u64()), (Some(6), Some(36)));

    let found = place.path().join("eval.json");
    let text = succeed(
        Command::new(env!("CARGO_BIN_EXE_dfml-train"))
            .args(["eval", "--efforts", "--checkpoint"])
            .arg(out.join("checkpoint.safetensors"))
            .arg("--data")
            .arg(&data)
            .arg("--json")
            .arg(&found),
    );
    let judged = json(&found);
    let parts: Vec<&str> =
        judged.as_array().unwrap().iter().map(|row| row["part"].as_str().unwrap()).collect();
    assert_eq!(parts, ["all", "routed", "sub-block 1", "sub-block 2", "sub-block 3"], "{text}");
    assert_eq!(judged[0]["retrieval"], report["after"]["retrieval"], "the checkpoint is what was judged");
    assert_eq!(judged[0]["clustering"], report["after"]["clustering"]);
    let macs: Vec<u64> = judged.as_array().unwrap().iter().map(|row| row["macs"].as_u64().unwrap()).collect();
    assert!(macs[2] < macs[1] && macs[1] < macs[0] && macs[2] == macs[4], "{macs:?}");
}

#[test]
fn cub_and_cars_folders_train_with_their_presets() {
    let place = tempfile::tempdir().unwrap();
    let weights = place.path().join("w.safetensors");
    write_weights(&weights);
    let last = "run.select_on=last";

    let cub = place.path().join("CUB_200_2011");
    let (mut names, mut labels) = (String::new(), String::new());
    for (number, (class, view)) in [1u64, 2, 40, 101, 102, 200]
        .iter()
        .flat_map(|class| (0..5).map(move |view| (*class, view)))
        .enumerate()
    {
        let name = format!("{class:03}.Bird/{view}.png");
        draw(&cub.join("images").join(&name), class, view);
        names += &format!("{} {name}\n", number + 1);
        labels += &format!("{} {class}\n", number + 1);
    }
    std::fs::write(cub.join("images.txt"), names).unwrap();
    std::fs::write(cub.join("image_class_labels.txt"), labels).unwrap();
    let out = place.path().join("cub");
    succeed(&mut fit("cub", &cub, &weights, &out, &[last]));
    let report = check_run(&out);
    assert_eq!((report["classes"].as_u64(), report["images"].as_u64()), (Some(3), Some(15)));
    assert_eq!(report["after"]["retrieval"]["recall_at_k"].as_object().unwrap().len(), 4);

    let cars = place.path().join("cars");
    std::fs::create_dir_all(&cars).unwrap();
    let annotations = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cars/cars_annos.mat");
    std::fs::copy(annotations, cars.join("cars_annos.mat")).unwrap();
    for number in 1..=24u64 {
        draw(&cars.join(format!("car_ims/{number:06}.jpg")), (number - 1) / 3, number);
    }
    let out = place.path().join("cars-run");
    succeed(&mut fit("cars", &cars, &weights, &out, &[last]));
    let report = check_run(&out);
    assert_eq!((report["classes"].as_u64(), report["images"].as_u64()), (Some(4), Some(12)));
}

#[test]
fn a_classifier_trains_on_imagenet_folders_and_is_judged_by_part() {
    let place = tempfile::tempdir().unwrap();
    let (data, weights, out) =
        (place.path().join("data"), place.path().join("w.safetensors"), place.path().join("run"));
    for class in 0..4u64 {
        (0..12).for_each(|view| draw(&data.join(format!("train/n{class}/{view}.png")), class, view));
        (20..24).for_each(|view| draw(&data.join(format!("val/n{class}/{view}.png")), class, view));
    }
    write_weights(&weights);
    let settings = [
        "run.precision=f32",
        "optimizer.learning_rate=1e-2",
        "optimizer.proxy_factor=10.0",
        "optimizer.weight_decay=0.0",
        "optimizer.accumulate=2",
        "optimizer.ema_decay=0.5",
        "optimizer.epochs=20",
        "data.rand_augment=0",
        "data.min_crop_area=0.9",
        "data.random_erasing=0.0",
    ];
    succeed(&mut fit("imagenet", &data, &weights, &out, &settings));
    let report = json(&out.join("metrics.json"));
    let loss = |epoch: usize| report["epochs"][epoch]["full"].as_f64().unwrap();
    assert!(loss(19) < loss(0), "cross-entropy fell from {} to {}", loss(0), loss(19));
    assert_eq!(report["after"]["top1_top5"][1], 1.0);
    let found = place.path().join("eval.json");
    succeed(
        Command::new(env!("CARGO_BIN_EXE_dfml-train"))
            .args(["eval", "--efforts", "--no-clusters", "--checkpoint"])
            .arg(out.join("checkpoint.safetensors"))
            .arg("--data")
            .arg(&data)
            .arg("--json")
            .arg(&found),
    );
    let judged = json(&found);
    assert_eq!(judged[0]["top1_top5"], report["after"]["top1_top5"], "the classifier is read again");
    assert!(judged[1]["top1_top5"].is_array(), "the routed network classifies too");
}

#[test]
fn settings_and_data_that_cannot_work_are_refused_before_training() {
    let place = tempfile::tempdir().unwrap();
    let (data, weights, out) =
        (place.path().join("data"), place.path().join("w.safetensors"), place.path().join("run"));
    sop(&data, 3, 2, 2);
    write_weights(&weights);
    let last = "run.select_on=last";
    let text =
        fail(&mut fit("sop", &data, &weights, &out, &["data.image_size=40", "data.resize_short=40", last]));
    assert!(text.contains("takes images of 32 pixels, but data.image_size is 40"), "{text}");
    let text = fail(&mut fit("sop", &data, &weights, &out, &[]));
    assert!(text.contains("3 classes are too few") && text.contains("select_on"), "{text}");
    let text = fail(&mut fit("sop", &data, &weights, &out, &["run.device=cuda:7"]));
    assert!(text.contains("libtorch sees 0 CUDA devices"), "{text}");
    std::fs::remove_file(data.join("bar_final/2_1.JPG")).unwrap();
    let text = fail(&mut fit("sop", &data, &weights, &out, &[]));
    assert!(text.contains("1 of 6 image files are missing") && text.contains("2_1.JPG"), "{text}");
    assert!(!out.exists(), "nothing was begun");
}
