//! Python programs, each group in a virtual environment of its own: what ours is measured against, and what checks our files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::tools;
use crate::command;

/// A virtual environment in the cache.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Folder in the cache.
    pub(crate) folder: &'static str,
    /// What pip is to install, one pinned package a line.
    requirements: &'static [&'static str],
    /// What it is for.
    purpose: &'static str,
    /// What to do without it.
    without: &'static str,
}

/// What ours is measured against: beside the embedding engine, and beside the index.
pub(crate) static PEERS: Environment = Environment {
    folder: "peers",
    requirements: &["tests/peers/requirements.txt", "tests/peers/index-requirements.txt"],
    purpose: "the programs to compare with",
    without: "or leave the comparison out",
};

/// What checks the compose files and the Kubernetes manifests.
pub(crate) static MANIFESTS: Environment = Environment {
    folder: "manifests",
    requirements: &["tests/manifests/requirements.txt"],
    purpose: "the programs that check compose files and Kubernetes manifests",
    without: "or run the tests that do without them",
};

impl Environment {
    fn requirements(&self) -> impl Iterator<Item = PathBuf> {
        self.requirements.iter().map(|name| command::workspace().join(name))
    }

    /// All that is asked for now.
    fn wanted(&self) -> Result<String> {
        let files = self.requirements().map(fs_err::read_to_string);
        Ok(files.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Whether the environment holds what the requirements ask for now.
    pub(crate) fn is_ready(&self, cache: &Path) -> bool {
        let installed = fs_err::read_to_string(self.stamp(cache));
        installed.is_ok_and(|installed| self.wanted().is_ok_and(|wanted| wanted == installed))
    }

    /// A copy of the requirements, written when all of them are installed.
    fn stamp(&self, cache: &Path) -> PathBuf {
        cache.join(self.folder).join("installed.txt")
    }

    /// Makes the environment, unless it is there.
    pub(crate) fn ensure(&self, cache: &Path) -> Result<()> {
        if self.is_ready(cache) {
            return Ok(());
        }
        let folder = cache.join(self.folder);
        tools::require_pip(self.purpose, self.without)?;
        eprintln!("installing {} into {}", self.requirements.join(" and "), folder.display());
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        command::run(&mut venv).context("Debian and Ubuntu have it in the package python3-venv")?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]);
        for file in self.requirements() {
            pip.arg("--requirement").arg(file);
        }
        command::run(&mut pip)?;
        fs_err::write(self.stamp(cache), self.wanted()?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned() {
        for environment in [&PEERS, &MANIFESTS] {
            let wanted = environment.wanted().unwrap();
            for line in wanted.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                assert!(line.contains("=="), "{}: {line}", environment.folder);
            }
        }
    }
}
