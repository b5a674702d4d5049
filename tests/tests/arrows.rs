//! Which crate may reach which (ARCHITECTURE.md, "Invariants"), read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use dfml_tests::binaries::workspace;

/// What each crate of the workspace may depend on among the others.
const ARROWS: [(&str, &[&str]); 6] = [
    ("dfml-models", &[]),
    ("dfml-index", &["dfml-models"]),
    ("dfml-train", &["dfml-models", "dfml-index"]),
    ("dfml-serve", &["dfml-models", "dfml-index"]),
    ("dfml-tests", &["dfml-models", "dfml-index", "dfml-serve"]),
    ("xtask", &["dfml-models"]),
];

/// What must not be reached, by crate.
const NEVER: [(&str, &[&str]); 5] = [
    ("dfml-models", &["tch", "torch-sys", "ort", "ort-sys", "tokio", "axum", "hyper"]),
    ("dfml-index", &["tch", "torch-sys", "ort", "ort-sys", "tokio", "axum", "hyper"]),
    ("dfml-train", &["dfml-serve", "ort", "ort-sys", "axum"]),
    ("dfml-serve", &["dfml-train", "tch", "torch-sys"]),
    ("xtask", &["dfml-train", "dfml-serve", "tch", "torch-sys", "ort"]),
];

/// The graph of the packages that are linked: normal dependencies, as they are resolved.
struct Graph {
    metadata: Metadata,
    links: BTreeMap<PackageId, Vec<PackageId>>,
}

impl Graph {
    fn read() -> Self {
        let metadata = MetadataCommand::new()
            .manifest_path(workspace().join("Cargo.toml"))
            .other_options(["--locked".to_owned(), "--offline".to_owned()])
            .exec()
            .expect("cargo metadata");
        let resolve = metadata.resolve.as_ref().expect("resolved dependencies");
        let links = resolve
            .nodes
            .iter()
            .map(|node| {
                let is_normal = |dep: &&cargo_metadata::NodeDep| {
                    dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
                };
                (node.id.clone(), node.deps.iter().filter(is_normal).map(|dep| dep.pkg.clone()).collect())
            })
            .collect();
        Self { metadata, links }
    }

    fn name(&self, id: &PackageId) -> String {
        self.metadata[id].name.to_string()
    }

    fn member(&self, name: &str) -> PackageId {
        let found =
            self.metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == name);
        found.unwrap_or_else(|| panic!("{name} is not in the workspace")).id.clone()
    }

    /// Names of everything that a crate of the workspace links, with the way there.
    fn reached_from(&self, name: &str) -> BTreeMap<String, String> {
        let start = self.member(name);
        let mut seen = BTreeSet::from([start.clone()]);
        let mut ways = BTreeMap::new();
        let mut open = vec![(start, name.to_owned())];
        while let Some((id, way)) = open.pop() {
            for next in &self.links[&id] {
                if seen.insert(next.clone()) {
                    let way = format!("{way} -> {}", self.name(next));
                    ways.insert(self.name(next), way.clone());
                    open.push((next.clone(), way));
                }
            }
        }
        ways
    }
}

#[test]
fn the_workspace_is_what_the_architecture_says() {
    let graph = Graph::read();
    let members: BTreeSet<String> =
        graph.metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    assert_eq!(members, ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, allowed) in ARROWS {
        let package = &graph.metadata[&graph.member(name)];
        for dependency in &package.dependencies {
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
    let graph = Graph::read();
    for (name, forbidden) in NEVER {
        let reached = graph.reached_from(name);
        for other in forbidden {
            assert!(!reached.contains_key(*other), "{name} must not reach {other}: {}", reached[*other]);
        }
    }
}

#[test]
fn the_graph_sees_what_is_linked() {
    // Would the two tests above notice anything? These links are known to be there.
    let graph = Graph::read();
    assert!(graph.reached_from("dfml-train").contains_key("torch-sys"));
    assert!(graph.reached_from("dfml-serve").contains_key("ort-sys"));
    assert!(graph.reached_from("dfml-index").contains_key("redb"));
}

#[test]
fn building_without_naming_a_crate_needs_no_libtorch() {
    let graph = Graph::read();
    let default: BTreeSet<String> =
        graph.metadata.workspace_default_members.iter().map(|id| graph.name(id)).collect();
    let without_train: BTreeSet<String> =
        ARROWS.iter().map(|(name, _)| (*name).to_owned()).filter(|name| name != "dfml-train").collect();
    assert_eq!(default, without_train);
    for name in &default {
        let reached = graph.reached_from(name);
        assert!(!reached.contains_key("torch-sys"), "{}", reached["torch-sys"]);
    }
}
