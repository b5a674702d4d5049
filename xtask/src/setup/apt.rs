//! Debian packages: one to unpack without being root, and the browser, which only the package manager can install.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::tools;
use crate::command;

/// Downloads a package (`name=version`) into a folder. Needs no root.
pub(crate) fn download(package: &str, folder: &Path, downloads: &Path, by_hand: &str) -> Result<()> {
    if !tools::has_apt() {
        bail!(
            "{package} is a Debian package and apt-get is missing: use a Debian or Ubuntu system, {by_hand}"
        );
    }
    let get = |options: &[String]| {
        let mut apt = Command::new("apt-get");
        apt.current_dir(folder).args(options).args(["-o", "Acquire::Retries=3"]);
        if tools::is_root() {
            // apt's own user cannot write into the folder, and says so at length.
            apt.args(["-o", "APT::Sandbox::User=root"]);
        }
        apt
    };
    if command::run_and_listen(get(&[]).args(["download", package]))?.0.success() {
        return Ok(());
    }
    // Most often the package lists are missing, as in container images. They can be fetched into a folder of our own.
    eprintln!("fetching package lists");
    let own = downloads.join("apt");
    for needed in ["lists/partial", "cache/archives/partial"] {
        fs_err::create_dir_all(own.join(needed))?;
    }
    let own = [
        "-o".to_owned(),
        format!("Dir::State::Lists={}", own.join("lists").display()),
        "-o".to_owned(),
        format!("Dir::Cache={}", own.join("cache").display()),
    ];
    let updated = command::run_and_listen(get(&own).arg("update"))?.0.success();
    if updated && command::run_and_listen(get(&own).args(["download", package]))?.0.success() {
        return Ok(());
    }
    bail!(
        "apt-get cannot fetch {package}: look at the network and at the sources of apt (Debian main has it), {by_hand}"
    );
}

/// Installs Chromium and its driver unless they are there.
pub(crate) fn ensure_chromium() -> Result<()> {
    const PACKAGES: &str = "chromium chromium-driver";
    if tools::has_chromium() {
        return Ok(());
    }
    if !tools::has_apt() {
        bail!("the test of the web page drives Chromium: install Chromium and chromedriver");
    }
    if !tools::is_root() {
        bail!(
            "the test of the web page drives Chromium, and only root can install it: sudo apt-get install {PACKAGES}"
        );
    }
    eprintln!("installing {PACKAGES}");
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["install", "-y", "--no-install-recommends"]).args(PACKAGES.split(' '));
    if !command::run_and_listen(Command::new("apt-get").arg("update"))?.0.success()
        || !command::run_and_listen(&mut install)?.0.success()
        || !tools::has_chromium()
    {
        bail!(
            "apt-get could not install {PACKAGES}: look at the network and at the sources of apt, and run the command again"
        );
    }
    Ok(())
}
