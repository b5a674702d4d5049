//! Which crate may reach which (ARCHITECTURE.md, "Invariants"), read from `cargo metadata` and `cargo tree`.

use std::collections::BTreeSet;
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand, Package};
use dfml_tests::binaries::workspace;

/// What each crate of the workspace may depend on among the others.
const ARROWS: [(&str, &[&str]); 7] = [
    ("dfml-models", &[]),
    ("dfml-index", &["dfml-models"]),
    ("dfml-qdrant", &["dfml-index"]),
    ("dfml-train", &["dfml-models", "dfml-index"]),
    ("dfml-serve", &["dfml-models", "dfml-index", "dfml-qdrant"]),
    ("dfml-tests", &["dfml-models", "dfml-index", "dfml-qdrant", "dfml-serve"]),
    ("xtask", &["dfml-models"]),
];

/// What must not be reached, by crate.
const NEVER: [(&str, &[&str]); 6] = [
    ("dfml-models", &["tch", "torch-sys", "ort", "ort-sys", "tokio", "axum", "hyper"]),
    ("dfml-index", &["tch", "torch-sys", "ort", "ort-sys", "tokio", "axum", "hyper"]),
    ("dfml-qdrant", &["tch", "torch-sys", "ort", "ort-sys", "reqwest", "qdrant-edge"]),
    ("dfml-train", &["dfml-serve", "dfml-qdrant", "ort", "ort-sys", "axum"]),
    ("dfml-serve", &["dfml-train", "tch", "torch-sys"]),
    ("xtask", &["dfml-train", "dfml-serve", "tch", "torch-sys", "ort"]),
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .other_options(["--locked".to_owned(), "--offline".to_owned()])
        .exec()
        .expect("cargo metadata")
}

fn member<'m>(metadata: &'m Metadata, name: &str) -> &'m Package {
    let found = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == name);
    found.unwrap_or_else(|| panic!("{name} is not in the workspace"))
}

/// Names of everything that a crate of the workspace links when it is built by itself: what other crates of the workspace
/// switch on in a dependency that both have is not its own.
fn linked(name: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package", name, "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(workspace())
        .output()
        .expect("cargo tree starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_workspace_is_what_the_architecture_says() {
    let metadata = metadata();
    let members: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    assert_eq!(members, ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, allowed) in ARROWS {
        for dependency in &member(&metadata, name).dependencies {
            let other = dependency.name.as_str();
            // A crate may use its own kind in tests; among the workspace's crates the arrows hold for tests as well.
            assert!(
                !members.contains(other) || allowed.contains(&other),
                "{name} must not depend on {other}"
            );
        }
    }
}

#[test]
fn nothing_reaches_what_it_must_not() {
    for (name, forbidden) in NEVER {
        let linked = linked(name);
        for other in forbidden {
            assert!(
                !linked.contains(*other),
                "{name} must not reach {other}: cargo tree -p {name} -e normal -i {other}"
            );
        }
    }
}

#[test]
fn the_list_has_what_is_linked() {
    // Would the tests here notice anything? These links are known to be there.
    for (name, other) in [
        ("dfml-train", "torch-sys"),
        ("dfml-serve", "ort-sys"),
        ("dfml-index", "redb"),
        ("dfml-qdrant", "tonic"),
    ] {
        assert!(linked(name).contains(other), "{name} links {other}");
    }
}

#[test]
fn building_without_naming_a_crate_needs_no_libtorch() {
    let metadata = metadata();
    let default: BTreeSet<String> =
        metadata.workspace_default_members.iter().map(|id| metadata[id].name.to_string()).collect();
    let without_train: BTreeSet<String> =
        ARROWS.iter().map(|(name, _)| (*name).to_owned()).filter(|name| name != "dfml-train").collect();
    assert_eq!(default, without_train);
    for name in &default {
        assert!(!linked(name).contains("torch-sys"), "cargo tree -p {name} -e normal -i torch-sys");
    }
}
