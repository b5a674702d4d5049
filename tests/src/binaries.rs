//! The workspace's programs, for tests that run them as a user would.

use std::path::PathBuf;

use escargot::CargoBuild;

/// The program `dfml`, built if it is missing or older than its sources.
pub fn dfml() -> PathBuf {
    build("dfml-serve", "dfml")
}

/// The program `dfml-train`, built if it is missing or older than its sources. It links libtorch, which
/// `cargo xtask setup` fetches.
pub fn dfml_train() -> PathBuf {
    build("dfml-train", "dfml-train")
}

fn build(package: &str, binary: &str) -> PathBuf {
    let mut build =
        CargoBuild::new().package(package).bin(binary).manifest_path(workspace().join("Cargo.toml"));
    if !cfg!(debug_assertions) {
        build = build.release();
    }
    match build.run() {
        Ok(built) => built.path().to_path_buf(),
        Err(error) => panic!("cannot build {binary}: {error}; `cargo xtask test` sets up what it needs"),
    }
}

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
