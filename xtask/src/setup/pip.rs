//! Wheels, by pip: the machine's own settings (index, proxy, certificates) hold, and the hash is checked on arrival.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archives::Archive;
use super::tools;
use crate::command;

/// What pip says when it reached no index.
const NOT_REACHED: [&str; 6] = [
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Max retries exceeded",
    "from versions: none",
    "timed out",
];

/// Downloads one wheel into a folder.
pub(crate) fn download(archive: &Archive, requirement: &str, folder: &Path, by_hand: &str) -> Result<()> {
    tools::require_pip(archive.name, by_hand)?;
    let tags =
        Tags::of(archive.name).with_context(|| format!("{} is not the name of a wheel", archive.name))?;
    let requirements = folder.join("requirements.txt");
    fs_err::write(&requirements, format!("{requirement} --hash=sha256:{}\n", archive.sha256))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    pip.args(["--require-hashes", "--implementation", "cp", "--abi", "none"]);
    pip.args(["--python-version", &tags.python_version, "--abi", &tags.abi]);
    for platform in &tags.platforms {
        pip.args(["--platform", platform]);
    }
    pip.arg("--dest").arg(folder).arg("--requirement").arg(&requirements);
    // Newer versions of pip go on where a connection broke; older ones do not know the setting and ignore it.
    pip.env("PIP_RESUME_RETRIES", "10");
    let (status, heard) = command::run_and_listen(&mut pip)?;
    if status.success() {
        return Ok(());
    }
    if NOT_REACHED.iter().any(|sign| heard.contains(sign)) {
        bail!(
            "{requirement} could not be fetched because no package index was reached: look at the network and pip's settings, {by_hand}"
        );
    }
    if heard.contains("DO NOT MATCH THE HASHES") {
        bail!("{requirement} on the package index is not the file that is pinned here: it is not used");
    }
    bail!("pip could not fetch {requirement} ({status}, see above): set that right, {by_hand}");
}

/// The tags in a wheel's name, as pip's flags want them.
#[derive(Debug, PartialEq, Eq)]
struct Tags {
    python_version: String,
    abi: String,
    platforms: Vec<String>,
}

impl Tags {
    /// From `name-version-python-abi-platform.whl`.
    fn of(wheel: &str) -> Option<Self> {
        let mut tags = wheel.strip_suffix(".whl")?.rsplit('-');
        let (platform, abi, python) = (tags.next()?, tags.next()?, tags.next()?);
        // Wheels for any Python 3 are asked for as that of the other wheels.
        let digits = python.strip_prefix("cp3").unwrap_or("11");
        let platforms = platform.split('.').map(str::to_owned).collect();
        Some(Self { python_version: format!("3.{digits}"), abi: abi.to_owned(), platforms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(python_version: &str, abi: &str, platforms: &[&str]) -> Option<Tags> {
        let platforms = platforms.iter().map(|&p| p.to_owned()).collect();
        Some(Tags { python_version: python_version.to_owned(), abi: abi.to_owned(), platforms })
    }

    #[test]
    fn tags_are_read_from_the_name() {
        assert_eq!(
            Tags::of("torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl"),
            tags("3.11", "cp311", &["manylinux_2_28_x86_64"])
        );
        assert_eq!(Tags::of("a_b-0.1.0-py2.py3-none-any.whl"), tags("3.11", "none", &["any"]));
        assert_eq!(Tags::of("a-1-py3-none-one.two.whl"), tags("3.11", "none", &["one", "two"]));
        assert_eq!(Tags::of("a-1.tar.gz"), None);
    }
}
