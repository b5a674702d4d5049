//! The tools that set-up leans on, and what to say when one is missing.

use std::path::Path;

use anyhow::{Result, bail};

use crate::command;

/// Whether `python3 -m pip` works.
pub(crate) fn has_pip() -> bool {
    command::succeeds("python3", &["-m", "pip", "--version"])
}

/// Whether there is a C++ compiler where cargo's build scripts look for one.
pub(crate) fn has_cxx() -> bool {
    let named = std::env::var_os("CXX")
        .is_some_and(|cxx| Path::new(&cxx).is_file() || command::find(&cxx.to_string_lossy()).is_some());
    named || command::find("c++").is_some()
}

pub(crate) fn has_apt() -> bool {
    command::find("apt-get").is_some() && command::find("dpkg-deb").is_some()
}

/// The browsers that the test of the web page can drive.
pub(crate) fn has_chromium() -> bool {
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    browsers.iter().any(|name| command::find(name).is_some()) && command::find("chromedriver").is_some()
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // The owner of a process's folder is its user.
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

pub(crate) fn require_pip(what: &str, by_hand: &str) -> Result<()> {
    if !has_pip() {
        bail!(
            "`python3 -m pip` does not work, and fetches {what}: install pip (Debian and Ubuntu: apt-get install python3-pip), \
             {by_hand}"
        );
    }
    Ok(())
}

pub(crate) fn require_cxx() -> Result<()> {
    if !has_cxx() {
        bail!(
            "training builds a little C++ and there is no compiler: install one (Debian and Ubuntu: apt-get install g++), \
             or name it in CXX"
        );
    }
    Ok(())
}

pub(crate) fn require_dpkg() -> Result<()> {
    if command::find("dpkg-deb").is_none() {
        bail!("dpkg-deb is missing, which unpacks Debian packages: install the package dpkg");
    }
    Ok(())
}
