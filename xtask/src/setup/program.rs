//! A program out of a Debian package, without installing it: in the version that the system's sources have, because Debian withdraws the
//! one before when it mends a hole.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{apt, install, tools};
use crate::command;

/// A package and its program.
#[derive(Debug)]
pub(crate) struct Program {
    /// Name of the package, of the program and of its folder in the cache.
    pub(crate) name: &'static str,
    /// Where the package has it.
    member: &'static str,
    /// What to do without apt-get.
    by_hand: &'static str,
}

/// The load balancer of docker/compose.cluster.yaml.
pub(crate) static NGINX: Program =
    Program { name: "nginx", member: "usr/sbin/nginx", by_hand: "or install nginx" };

impl Program {
    /// Where it is: the one of the system, or the one that set-up unpacked.
    pub(crate) fn find(&self, cache: &Path) -> Option<PathBuf> {
        // Not everybody's search path has the folders of system programs.
        let system = [Path::new("/").join(self.member)];
        let ours = cache.join(self.name).join(self.name);
        command::find(self.name).into_iter().chain(system).chain([ours]).find(|path| path.is_file())
    }

    /// Unpacks it into the cache, unless it is there.
    pub(crate) fn ensure(&self, cache: &Path) -> Result<()> {
        if self.find(cache).is_some() {
            return Ok(());
        }
        eprintln!("fetching {}", self.name);
        let staging = install::staging(cache)?;
        apt::download(self.name, staging.path(), &cache.join("downloads"), self.by_hand)?;
        let package = fs_err::read_dir(staging.path())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("apt-get left no package {}", self.name))?;
        tools::require_dpkg()?;
        let whole = staging.path().join("whole");
        command::run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&whole))?;
        let program = whole.join(self.member);
        ensure!(
            command::succeeds(&program, &["-v"]),
            "{} does not start here: install it by the package manager, which brings its libraries",
            self.name
        );
        let folder = cache.join(self.name);
        fs_err::create_dir_all(&folder)?;
        fs_err::rename(program, folder.join(self.name))?;
        Ok(())
    }
}
