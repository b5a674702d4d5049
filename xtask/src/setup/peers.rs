//! The Python programs that ours is measured against (tests/peers), in a virtual environment of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::tools;
use crate::command;

/// Folder in the cache.
pub(crate) const FOLDER: &str = "peers";

/// What pip is to install, one pinned package a line: beside the embedding engine, and beside the index.
const REQUIREMENTS: [&str; 2] = ["requirements.txt", "index-requirements.txt"];

fn requirements() -> [PathBuf; 2] {
    REQUIREMENTS.map(|name| command::workspace().join("tests/peers").join(name))
}

/// All that is asked for now.
fn wanted() -> Result<String> {
    let files = requirements().map(fs_err::read_to_string);
    Ok(files.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// Whether the environment holds what the requirements ask for now.
pub(crate) fn is_ready(cache: &Path) -> bool {
    let installed = fs_err::read_to_string(stamp(cache));
    installed.is_ok_and(|installed| wanted().is_ok_and(|wanted| wanted == installed))
}

/// A copy of the requirements, written when all of them are installed.
fn stamp(cache: &Path) -> PathBuf {
    cache.join(FOLDER).join("installed.txt")
}

/// Makes the environment, unless it is there.
pub(crate) fn ensure(cache: &Path) -> Result<()> {
    if is_ready(cache) {
        return Ok(());
    }
    let folder = cache.join(FOLDER);
    tools::require_pip("the programs to compare with", "or leave the comparison out")?;
    eprintln!("installing {} into {}", REQUIREMENTS.join(" and "), folder.display());
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&folder);
    command::run(&mut venv).context("Debian and Ubuntu have it in the package python3-venv")?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]);
    for file in requirements() {
        pip.arg("--requirement").arg(file);
    }
    command::run(&mut pip)?;
    fs_err::write(stamp(cache), wanted()?)?;
    Ok(())
}
