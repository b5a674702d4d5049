//! The command line from outside: exit codes, messages that name the thing, resuming.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use support::{jpeg, picture, write_catalogue, write_jpeg, write_model};

/// A folder with a model and a catalogue of four products with two views each.
struct Place {
    dir: tempfile::TempDir,
    list: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("folder");
        write_model(&dir.path().join("model"), 1, None);
        let list = write_catalogue(dir.path(), 4);
        Self { dir, list }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `dfml` in the folder, on the CPU.
    fn dfml(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("dfml runs")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dfml"));
        command.args(args).current_dir(self.dir.path()).env("DFML_ENGINE__PROVIDER", "cpu");
        command
    }

    fn index(&self, more: &[&str]) -> Output {
        let list = self.list.to_string_lossy();
        let args = ["index", "import", "--model", "model", "--catalogue", "store", "--list", &list];
        self.dfml(&[&args, more].concat())
    }

    /// Adds a line to the list and returns its number.
    fn list_more(&self, line: &str) -> usize {
        let text = fs::read_to_string(&self.list).expect("list") + line + "\n";
        fs::write(&self.list, &text).expect("list");
        text.lines().count()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn indexing_goes_past_bad_images_and_names_them() {
    let place = Place::new();
    fs::write(place.path("text.jpg"), "this is text\n").expect("write");
    let whole = jpeg(1);
    fs::write(place.path("cut.jpg"), &whole[..whole.len() / 2]).expect("write");
    let bad = [
        (place.list_more("91 90 1 absent.jpg"), "absent.jpg"),
        (place.list_more("92 90 1 text.jpg"), "text.jpg"),
        (place.list_more("93 90 1 cut.jpg"), "cut.jpg"),
    ];
    let output = place.index(&[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stdout(&output).contains("8 items; 8 embedded, 0 updated, 0 unchanged, 3 left out"),
        "{}",
        stdout(&output)
    );
    for (line, name) in bad {
        let errors = stderr(&output);
        let found = errors.lines().find(|text| text.contains(&format!("list.txt:{line}:")));
        assert!(found.is_some_and(|text| text.contains(name)), "line {line}, {name}: {errors}");
    }
    let output = place.index(&["--strict"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("3 of 11 images were left out"), "{}", stderr(&output));
}

#[test]
fn indexing_again_embeds_only_what_is_new_or_changed() {
    let place = Place::new();
    let count = |more: &[&str]| stdout(&place.index(more));
    assert!(count(&[]).contains("8 items; 8 embedded, 0 updated, 0 unchanged"));
    assert!(count(&[]).contains("8 items; 0 embedded, 0 updated, 8 unchanged"));

    // Same contents, another time: known by its hash, and only its stamp is stored anew.
    let path = place.path("thing_final/0_0.jpg");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(later)).expect("touch");
    assert!(count(&[]).contains("8 items; 0 embedded, 1 updated, 7 unchanged"));

    // Another picture, and a new one.
    write_jpeg(&path, 77);
    write_jpeg(&place.path("thing_final/9_0.jpg"), 90);
    place.list_more("9 9 1 thing_final/9_0.jpg");
    assert!(count(&[]).contains("9 items; 2 embedded, 0 updated, 7 unchanged"));

    // What is known about the products has changed, the pictures have not.
    fs::write(place.path("products.jsonl"), "{\"id\":\"9\",\"name\":\"Lamp\",\"category\":\"Lamps\"}\n")
        .expect("write");
    assert!(count(&["--products", "products.jsonl"]).contains("9 items; 0 embedded, 1 updated, 8 unchanged"));
}

#[test]
fn searching_finds_the_product_of_the_picture() {
    let place = Place::new();
    let products = "{\"id\":\"2\",\"name\":\"Oak chair\",\"category\":\"Chairs\"}\n";
    fs::write(place.path("products.jsonl"), products).expect("write");
    assert_eq!(code(&place.index(&["--products", "products.jsonl"])), 0);
    let search = |more: &[&str]| {
        let args = ["search", "thing_final/2_1.jpg", "--model", "model", "--catalogue", "store"];
        place.dfml(&[&args, more].concat())
    };
    let output = search(&[]);
    let table = stdout(&output);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 1 + 4, "a head and one line per product: {table}{}", stderr(&output));
    assert!(
        lines[1].contains("1.000") && lines[1].contains("Oak chair") && lines[1].contains("Chairs"),
        "{table}"
    );

    let output = search(&["--json", "-k", "2"]);
    let hits: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(hits.len(), 2);
    assert_eq!(hits[0]["product_id"], "2");
    assert_eq!(hits[0]["metadata"]["path"], "thing_final/2_1.jpg");

    let output = search(&["--category", "Sofas"]);
    assert_eq!((code(&output), stdout(&output).trim()), (0, "no products found"));
}

#[test]
fn a_store_of_another_model_is_refused() {
    let place = Place::new();
    assert_eq!(code(&place.index(&[])), 0);
    write_model(&place.path("other"), 2, None);
    let output = place.dfml(&["search", "thing_final/0_0.jpg", "--model", "other", "--catalogue", "store"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("store") && stderr(&output).contains("model"), "{}", stderr(&output));
}

#[test]
fn evaluating_writes_the_figures() {
    let place = Place::new();
    let list = place.list.to_string_lossy();
    let output =
        place.dfml(&["eval", "--model", "model", "--gallery", &list, "--json", "result.json", "--record"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stdout(&output).contains("Recall@1 ") && stdout(&output).contains("MAP@R "),
        "{}",
        stdout(&output)
    );
    let report: Value =
        serde_json::from_slice(&fs::read(place.path("result.json")).expect("written")).expect("JSON");
    let result = &report["results"][0];
    assert_eq!((&result["queries"], &result["gallery"]), (&8.into(), &8.into()));
    let recall = result["recall_at_k"]["10"].as_f64().expect("a number");
    assert_eq!(recall, 1.0, "there are only 7 others");
    let info = stdout(&place.dfml(&["info", "--model", "model"]));
    assert!(info.contains("evaluation   list: Recall@1"), "{info}");

    // The same pictures as queries: each finds itself.
    let output = place.dfml(&["eval", "--model", "model", "--gallery", &list, "--queries", &list]);
    assert!(stdout(&output).contains("list in list: Recall@1 1.0000"), "{}", stdout(&output));
}

#[test]
fn embedding_keeps_the_order_of_the_files() {
    let place = Place::new();
    fs::write(place.path("text.jpg"), "this is text\n").expect("write");
    let files = ["thing_final/0_0.jpg", "text.jpg", "thing_final/1_0.jpg"];
    let output = place.dfml(&[&["embed"], &files[..], &["--model", "model"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let lines: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let paths: Vec<_> = lines.iter().map(|line| line["path"].as_str().expect("text")).collect();
    assert_eq!(paths, files);
    assert_eq!(lines[0]["embedding"].as_array().expect("a vector").len(), 24);
    assert!(lines[1]["error"].as_str().expect("an error").contains("not an image"), "{}", lines[1]);
    let output = place.dfml(&["embed", "text.jpg", "--model", "model", "--strict"]);
    assert_eq!(code(&output), 1);
}

#[test]
fn shards_of_a_list_together_hold_every_vector() {
    let place = Place::new();
    let names: Vec<String> = (0..4).map(|class| format!("thing_final/{class}_0.jpg")).collect();
    fs::write(place.path("photos.txt"), names.join("\n") + "\n\n").expect("write");
    let embed = |more: &[&str]| {
        let output = place.dfml(&[&["embed", "--list", "photos.txt", "--model", "model"], more].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        output.stdout
    };
    let whole = embed(&["--format", "jsonl"]);
    let parts = [embed(&["--shard", "1/3"]), embed(&["--shard", "2/3"]), embed(&["--shard", "3/3"])].concat();
    assert_eq!(String::from_utf8_lossy(&parts), String::from_utf8_lossy(&whole));
    embed(&["--format", "parquet", "--out", "vectors.parquet"]);
    assert!(fs::read(place.path("vectors.parquet")).expect("written").starts_with(b"PAR1"));
    refuses(&place, &["embed", "--list", "photos.txt", "--model", "model", "--shard", "4/3"], 2, &["4/3"]);
    refuses(
        &place,
        &["embed", "--list", "photos.txt", "--model", "model", "--format", "parquet"],
        2,
        &["--out"],
    );
    refuses(&place, &["embed", "--list", "absent.txt", "--model", "model"], 1, &["absent.txt"]);
}

#[test]
fn a_cheaper_form_is_measured_and_refused_if_it_loses_too_much() {
    let place = Place::new();
    let list = place.list.to_string_lossy().into_owned();
    let export = ["export", "--from", "model", "--precision", "fp16", "--out", "half"];
    refuses(&place, &export, 1, &["--gallery"]);
    let output = place.dfml(&[&export[..], &["--gallery", &list]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("a loss of"), "{}", stdout(&output));
    let manifest: Value =
        serde_json::from_slice(&fs::read(place.path("half/manifest.json")).expect("written")).expect("JSON");
    assert_eq!((&manifest["precision"], &manifest["variant"]["queries"]), (&"fp16".into(), &8.into()));
    assert!(manifest["variant"]["mean_cosine"].as_f64().expect("a number") > 0.999);
    // Of the same pictures, by the same code.
    let before = manifest["variant"]["recall_at_1_before"].as_f64().expect("a number");
    place.dfml(&["eval", "--model", "model", "--gallery", &list, "--json", "full.json"]);
    let full: Value =
        serde_json::from_slice(&fs::read(place.path("full.json")).expect("written")).expect("JSON");
    assert_eq!(full["results"][0]["recall_at_k"]["1"].as_f64(), Some(before));
    // It is a model like any other, but not one to make cheaper forms of.
    assert_eq!(code(&place.dfml(&["info", "--model", "half"])), 0);
    let again = ["export", "--from", "half", "--precision", "fp16", "--gallery", &list, "--out", "quarter"];
    refuses(&place, &again, 1, &["half", "cheaper form"]);
    refuses(&place, &["export", "--from", "model", "--out", "copy"], 1, &["--precision"]);
    let routed = ["export", "--from", "model", "--effort", "routed", "--gallery", &list, "--out", "routed"];
    refuses(&place, &routed, 2, &["--checkpoint"]);
}

#[test]
fn measuring_prints_and_writes_ratios() {
    let place = Place::new();
    let args = ["bench", "embed", "--model", "model", "--images", "thing_final", "--rounds", "1"];
    let output = place.dfml(&[&args[..], &["--no-python", "--no-peak", "--json", "bench.json"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report: Value =
        serde_json::from_slice(&fs::read(place.path("bench.json")).expect("written")).expect("JSON");
    let ratio = report["ratios"]["end_to_end_over_session"].as_f64().expect("a ratio");
    assert!(ratio > 0.0 && ratio < 1.5, "end to end includes the session: {ratio}");
    assert!(stdout(&output).contains("end to end / network alone"), "{}", stdout(&output));
    assert_eq!(report["embed"]["images"], 8);
}

#[test]
fn a_provider_that_is_not_there_is_named_with_the_reason() {
    let place = Place::new();
    let output = place.dfml(&["info", "--model", "model", "--provider", "cuda", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let provider = &report["provider"];
    if provider["active"] == "cuda" {
        assert!(provider["device_bytes"].as_u64() > Some(0), "a GPU that holds nothing: {provider}");
        return;
    }
    assert_eq!((&provider["requested"], &provider["active"]), (&"cuda".into(), &"cpu".into()));
    let reason = provider["reason"].as_str().expect("text");
    assert!(reason.contains("cuda failed") && !reason.contains('/'), "{reason}");
    assert!(stderr(&output).contains("provider cannot be used"), "a warning: {}", stderr(&output));
    refuses(
        &place,
        &["info", "--model", "model", "--provider", "cuda", "--require-gpu"],
        3,
        &["GPU is required", "cuda failed"],
    );
}

/// Runs the arguments, which must fail with `expected` and an error that contains all of `named`.
fn refuses(place: &Place, args: &[&str], expected: i32, named: &[&str]) {
    let output = place.dfml(args);
    assert_eq!(code(&output), expected, "{args:?}: {}", stderr(&output));
    for name in named {
        assert!(stderr(&output).contains(name), "{args:?} does not name {name}: {}", stderr(&output));
    }
}

#[test]
fn errors_name_the_thing_and_exit_codes_tell_kinds_apart() {
    let place = Place::new();
    let index = |list| ["index", "import", "--model", "model", "--catalogue", "store", "--list", list];
    refuses(&place, &index("nowhere.txt"), 1, &["nowhere.txt"]);
    fs::write(place.path("broken.txt"), "image_id class_id super_class_id path\n1 x 1 a.jpg\n")
        .expect("write");
    refuses(&place, &index("broken.txt"), 1, &["broken.txt:2", "\"x\""]);
    refuses(&place, &["search", "no.jpg", "--model", "model", "--catalogue", "store"], 1, &["no.jpg"]);
    refuses(&place, &["search", "list.txt", "--model", "model", "--catalogue", "none"], 1, &["none"]);
    refuses(&place, &["info", "--model", "no-model"], 1, &["no-model", "manifest.json"]);
    refuses(&place, &["verify", "model"], 1, &["reference.safetensors"]);
    refuses(&place, &["search", "--nonsense"], 2, &["--nonsense"]);
    refuses(&place, &["info", "--model", "model", "--provider", "abacus"], 2, &["abacus"]);
    refuses(&place, &["info", "--model", "model", "--require-gpu"], 3, &["GPU", "cpu"]);
    refuses(
        &place,
        &["info", "--model", "model", "--onnxruntime", "absent.so"],
        1,
        &["absent.so", "xtask setup"],
    );
    refuses(&place, &["info", "--model", "model", "--config", "absent.toml"], 1, &["absent.toml"]);

    let manifest = fs::read_to_string(place.path("model/manifest.json")).expect("manifest");
    let hash = "\"sha256\": \"";
    let at = manifest.find(hash).expect("a hash") + hash.len();
    let other = if manifest.as_bytes()[at] == b'0' { "1" } else { "0" };
    let mut broken = manifest.clone();
    broken.replace_range(at..=at, other);
    fs::write(place.path("model/manifest.json"), broken).expect("write");
    refuses(&place, &["info", "--model", "model"], 1, &["model.onnx", "SHA-256", &manifest[at..at + 64]]);
}

#[test]
fn settings_come_from_the_environment_and_unknown_ones_are_errors() {
    let place = Place::new();
    let run = |name: &str, value: &str| {
        place.command(&["info", "--model", "model"]).env(name, value).output().expect("runs")
    };
    let output = run("DFML_ENGINE__THREADS", "1");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for (name, value, named) in [
        ("DFML_ENGINE_THREADS", "1", "DFML_ENGINE_THREADS"),
        ("DFML_ENGINE__THREDS", "1", "thred"),
        ("DFML_ENGINE__THREADS", "many", "many"),
    ] {
        let output = run(name, value);
        assert_eq!(code(&output), 1, "{name}={value}");
        assert!(
            stderr(&output).to_lowercase().contains(&named.to_lowercase()),
            "{name}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn the_tests_pictures_differ() {
    let stamp = |path: &Path| fs::read(path).expect("a file");
    let place = Place::new();
    assert_ne!(stamp(&place.path("thing_final/0_0.jpg")), stamp(&place.path("thing_final/0_1.jpg")));
    assert_ne!(picture(0), picture(10));
}
