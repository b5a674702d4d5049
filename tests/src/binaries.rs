//! The workspace's programs, for tests that run them as a user would.

use std::path::PathBuf;

use escargot::CargoBuild;

/// The program `dfml`: from the folder that `XTASK_TEST_PROGRAMS` names, as `cargo xtask test` sets it; without one it is
/// built, if it is missing or older than its sources.
pub fn dfml() -> PathBuf {
    program("dfml-serve", "dfml")
}

/// The program `dfml-train`, found or built as [`dfml`] is. It links libtorch, which `cargo xtask setup` fetches.
pub fn dfml_train() -> PathBuf {
    program("dfml-train", "dfml-train")
}

/// The program `dfml-qdrant-server`: the one that `XTASK_TEST_ENGINE` names, as `cargo xtask test` sets it; without one it is
/// built, which takes minutes the first time.
pub fn qdrant_server() -> PathBuf {
    if let Some(program) = std::env::var_os("XTASK_TEST_ENGINE") {
        return PathBuf::from(program);
    }
    let build = CargoBuild::new().manifest_path(workspace().join("tests/qdrant-server/Cargo.toml"));
    match build.target_dir(workspace().join("target/qdrant-server")).run() {
        Ok(built) => built.path().to_path_buf(),
        Err(error) => panic!("cannot build the test server: {error}"),
    }
}

fn program(package: &str, binary: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("XTASK_TEST_PROGRAMS") {
        let program = PathBuf::from(folder).join(binary);
        assert!(program.is_file(), "{} is missing, in the folder XTASK_TEST_PROGRAMS", program.display());
        return program;
    }
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
