//! libtorch for NVIDIA GPUs: pip's package of it with all the CUDA libraries it needs, in the layout in which they find each other.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::tools;
use crate::command;

/// What pip installs; the package asks for the exact versions of its CUDA libraries itself.
const REQUIREMENT: &str = "torch==2.13.0";
/// Folder in the cache.
pub(crate) const FOLDER: &str = "libtorch-cuda-2.13.0";
/// Made last: whoever finds it finds all of it.
const STAMP: &str = ".dfml-libtorch-cuda";

/// What LIBTORCH is set to.
pub(crate) fn libtorch(cache: &Path) -> PathBuf {
    cache.join(FOLDER).join("torch")
}

/// Whether all of it is there.
pub(crate) fn is_ready(cache: &Path) -> bool {
    cache.join(FOLDER).join(STAMP).exists()
}

/// Installs it, unless it is there.
pub(crate) fn ensure(cache: &Path) -> Result<()> {
    if is_ready(cache) {
        return Ok(());
    }
    tools::require_pip("libtorch for CUDA", "or set LIBTORCH to one of your own")?;
    let folder = cache.join(FOLDER);
    eprintln!("installing {REQUIREMENT} and its CUDA libraries into {}", folder.display());
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--only-binary=:all:"]);
    pip.args(["--no-compile", "--target"]).arg(&folder).arg(REQUIREMENT);
    pip.env("PIP_RESUME_RETRIES", "10");
    command::run(&mut pip)?;
    fs_err::write(folder.join(STAMP), REQUIREMENT)?;
    Ok(())
}
