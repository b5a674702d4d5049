//! Runs that are killed, stopped, or meet bad numbers, bad images and a full disk.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{fail, fit, json, sop, succeed, write_weights};

struct Place {
    _folder: tempfile::TempDir,
    root: PathBuf,
    data: PathBuf,
    weights: PathBuf,
}

fn place(classes: u64) -> Place {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().to_owned();
    let (data, weights) = (root.join("data"), root.join("w.safetensors"));
    sop(&data, classes, 3, 6);
    write_weights(&weights);
    Place { _folder: folder, root, data, weights }
}

impl Place {
    fn fit(&self, out: &Path, settings: &[&str]) -> Command {
        fit("sop", &self.data, &self.weights, out, settings)
    }
}

/// Everything that has a state: a loss that draws from a generator and learns tensors of its own, a moving average, several batches per
/// step, a choice of the best.
const STATEFUL: [&str; 6] = [
    "loss.metric={ kind = \"margin\" }",
    "optimizer.ema_decay=0.9",
    "optimizer.accumulate=2",
    "optimizer.epochs=4",
    "data.images_per_class=3",
    "run.checkpoint_steps=1",
];

fn checkpoints(out: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(out.join("checkpoints")) else { return Vec::new() };
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("step-") && name.ends_with("safetensors")).collect();
    names.sort();
    names
}

#[test]
fn a_run_that_is_killed_in_an_epoch_goes_on_to_the_same_weights_bit_for_bit() {
    let place = place(40);
    let whole = place.root.join("whole");
    succeed(&mut place.fit(&whole, &STATEFUL));

    let killed = place.root.join("killed");
    let mut process =
        place.fit(&killed, &STATEFUL).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    // In the second of four epochs of nine steps.
    while checkpoints(&killed).last().is_none_or(|name| name.as_str() < "step-00000012") {
        assert!(Instant::now() < deadline, "no checkpoint within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    // SIGKILL: nothing can be put in order.
    process.kill().expect("kill");
    process.wait().expect("a child");
    assert!(!killed.join("metrics.json").exists(), "it was killed before the end");

    let text = fail(&mut place.fit(&killed, &STATEFUL));
    assert!(text.contains("holds checkpoints of a run: go on with --resume"), "{text}");
    let text =
        fail(place.fit(&killed, &STATEFUL).args(["--resume", "--set", "optimizer.learning_rate=1e-5"]));
    assert!(text.contains("begun with other settings (`learning_rate = "), "{text}");
    let text = succeed(place.fit(&killed, &STATEFUL).arg("--resume"));
    assert!(text.contains("going on after step "), "{text}");

    // Headers have times and no order; the tensors are what must be the same.
    let bits = |out: &Path, file: &str| -> Vec<(String, Vec<u32>)> {
        let tensors = dfml_models::load_weights(out.join(file)).unwrap();
        tensors.into_iter().map(|(name, t)| (name, t.data.iter().map(|x| x.to_bits()).collect())).collect()
    };
    for file in ["checkpoint.safetensors", "loss.safetensors", "checkpoints/best.safetensors"] {
        assert!(bits(&whole, file) == bits(&killed, file), "{file} differs");
    }
    let exported = |out: &Path| std::fs::read(out.join("model/model.onnx")).unwrap();
    assert!(exported(&whole) == exported(&killed), "the exported networks differ");
    let steps = |out: &Path| -> Vec<String> {
        let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        text.lines().filter(|line| line.contains("\"kind\":\"step\"")).map(str::to_owned).collect()
    };
    assert_eq!(steps(&whole), steps(&killed), "the log has each step once, with the same figures");

    // A finished run that is resumed trains no more.
    let before = bits(&killed, "checkpoint.safetensors");
    succeed(place.fit(&killed, &STATEFUL).arg("--resume"));
    assert!(before == bits(&killed, "checkpoint.safetensors"));
}

/// Starts a run, and ends it by Ctrl-C as soon as it has a checkpoint.
#[cfg(unix)]
fn interrupt(command: &mut Command, out: &Path) -> Output {
    let process = command.stderr(Stdio::piped()).spawn().expect("starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while checkpoints(out).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let told = Command::new("kill").arg("-INT").arg(process.id().to_string()).status();
    assert!(told.expect("kill runs").success());
    process.wait_with_output().expect("a child")
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_run_with_a_checkpoint_and_exit_code_130() {
    let place = place(20);
    let out = place.root.join("run");
    let output = interrupt(&mut place.fit(&out, &["optimizer.epochs=1000", "run.checkpoint_steps=1"]), &out);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("stopped; go on with --resume"), "{text}");
}

#[test]
fn a_loss_that_is_not_a_number_stops_with_step_files_and_the_last_good_checkpoint() {
    let place = place(20);
    let out = place.root.join("run");
    let settings = ["optimizer.learning_rate=1e38", "optimizer.warm_epochs=1.0", "run.checkpoint_steps=2"];
    let text = fail(&mut place.fit(&out, &settings));
    assert!(text.contains("the loss is") && text.contains("at epoch ") && text.contains("step "), "{text}");
    let last = checkpoints(&out).pop();
    let named = last.map_or("last good checkpoint: none".to_owned(), |name| name);
    assert!(text.contains(".JPG") && text.contains(&named), "{named} in {text}");
    // What is on disk is good.
    for name in checkpoints(&out) {
        let tensors = dfml_models::load_weights(out.join("checkpoints").join(name)).unwrap();
        assert!(tensors.values().all(|tensor| tensor.data.iter().all(|value| value.is_finite())));
    }
}

#[test]
fn a_corrupt_image_is_named_or_skipped_as_configured() {
    let place = place(10);
    let bad = place.data.join("bar_final/3_2.JPG");
    let bytes = std::fs::read(&bad).unwrap();
    std::fs::write(&bad, &bytes[..bytes.len() / 4]).unwrap();
    std::fs::write(place.data.join("bar_final/11_0.JPG"), b"no picture").unwrap();
    let text = fail(&mut place.fit(&place.root.join("strict"), &["run.evaluate_before=false"]));
    assert!(text.contains("3_2.JPG") || text.contains("11_0.JPG"), "{text}");

    let out = place.root.join("lenient");
    let text = succeed(&mut place.fit(&out, &["data.on_bad_image=skip", "run.select_on=last"]));
    assert!(text.contains("1 images could not be decoded and were left out"), "{text}");
    let report = json(&out.join("metrics.json"));
    assert_eq!(report["after"]["retrieval"]["gallery"], 17, "of 18");
    let skipped = report["skipped"].as_array().unwrap();
    assert!(skipped.len() == 1 && skipped[0].as_str().unwrap().ends_with("3_2.JPG"), "{skipped:?}");
}

#[test]
fn a_class_with_one_image_is_only_a_warning() {
    let place = place(10);
    let list = place.data.join("Ebay_train.txt");
    let text = std::fs::read_to_string(&list).unwrap();
    // Class 2 keeps its first image.
    let kept: Vec<&str> =
        text.lines().filter(|line| !line.contains(" 2 1 ") || line.contains("/2_0.JPG")).collect();
    std::fs::write(&list, kept.join("\n") + "\n").unwrap();
    let out = place.root.join("run");
    let text = succeed(&mut place.fit(&out, &["run.select_on=last", "data.images_per_class=2"]));
    assert!(text.contains("1 of 10 training classes have a single image"), "{text}");
}

/// Runs `command` where no file may grow to `bytes`: a write fails in the middle, as on a full disk.
#[cfg(unix)]
fn on_a_full_disk(command: &Command, bytes: u64) -> Command {
    // In blocks of 512 bytes; SIGXFSZ is ignored, so that the write itself fails.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512 - 8);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(script).arg(command.get_program()).args(command.get_args());
    limited
}

#[test]
#[cfg(unix)]
fn a_full_disk_loses_no_checkpoint() {
    let place = place(10);
    let settings =
        ["run.select_on=last", "run.evaluate_before=false", "optimizer.epochs=12", "run.checkpoint_steps=1"];
    let run = place.root.join("run");
    let stopped = interrupt(&mut place.fit(&run, &settings), &run);
    assert_eq!(stopped.status.code(), Some(130));
    let files = |out: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(out.join("checkpoints")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let kept = files(&run);
    let size = kept[0].1.len() as u64;
    let refused = |text: &str| {
        let named = text.contains("cannot write") && text.contains("step-");
        assert!(named && text.contains("File too large"), "{text}");
    };

    refused(&fail(&mut on_a_full_disk(place.fit(&run, &settings).arg("--resume"), size)));
    assert!(kept == files(&run), "the older checkpoints are as they were, and no half one is beside them");
    let text = succeed(place.fit(&run, &settings).arg("--resume"));
    assert!(text.contains("going on after step "), "{text}");

    let first = place.root.join("first");
    refused(&fail(&mut on_a_full_disk(&place.fit(&first, &settings), size)));
    assert!(files(&first).is_empty(), "no half checkpoint under any name");
}
