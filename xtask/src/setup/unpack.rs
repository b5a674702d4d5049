//! Taking files out of archives: wheels are zip files, Debian packages are left to dpkg-deb.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use zip::ZipArchive;

use super::archives::{Archive, Source};
use super::components::{Part, Recipe};
use super::install::bytes_style;
use super::tools;
use crate::command;

/// Puts all parts of a recipe into `fresh`; `staging` is for what is needed on the way.
pub(crate) fn unpack<'a>(
    recipe: &Recipe,
    path_of: impl Fn(&Archive) -> Result<&'a Path>,
    fresh: &Path,
    staging: &Path,
) -> Result<()> {
    for archive in recipe.archives() {
        let parts: Vec<&Part> = recipe.parts.iter().filter(|part| part.archive() == Some(&archive)).collect();
        let path = path_of(&archive)?;
        match archive.source {
            Source::Wheel(_) => unzip(path, &parts, fresh),
            Source::Debian(_) => undebian(path, &parts, fresh, &staging.join(archive.name)),
        }
        .with_context(|| path.display().to_string())?;
    }
    for part in &recipe.parts {
        if let Part::Text { to, contents } = part {
            let to = fresh.join(to);
            make_parent(&to)?;
            fs_err::write(to, contents)?;
        }
    }
    Ok(())
}

/// Where a member of an archive goes, relative to the component's folder; `None` if no part asks for it.
fn destination(parts: &[&Part], member: &str) -> Option<PathBuf> {
    parts.iter().find_map(|part| match part {
        Part::File { member: wanted, to, .. } if *wanted == member => Some(PathBuf::from(to)),
        Part::Tree { prefix, to, .. } => {
            let rest = member.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
            Some(Path::new(to).join(rest))
        }
        _ => None,
    })
}

fn unzip(archive: &Path, parts: &[&Part], fresh: &Path) -> Result<()> {
    let mut zip = ZipArchive::new(fs_err::File::open(archive)?)?;
    let mut wanted = Vec::new();
    let mut bytes = 0;
    for index in 0..zip.len() {
        let member = zip.by_index_raw(index)?;
        if member.is_file()
            && member.enclosed_name().is_some()
            && let Ok(name) = member.name()
            && let Some(to) = destination(parts, &name)
        {
            bytes += member.size();
            wanted.push((index, to));
        }
    }
    ensure_complete(parts, wanted.iter().map(|(_, to)| to.as_path()))?;
    let bar = ProgressBar::new(bytes).with_style(bytes_style()).with_prefix("unpacking");
    for (index, to) in wanted {
        let to = fresh.join(to);
        make_parent(&to)?;
        let mut file = fs_err::File::create(&to)?;
        let member = zip.by_index(index)?;
        let is_program = member.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
        std::io::copy(&mut bar.wrap_read(member), &mut file)?;
        file.sync_all()?;
        if is_program {
            fs_err::set_permissions(&to, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn undebian(archive: &Path, parts: &[&Part], fresh: &Path, whole: &Path) -> Result<()> {
    tools::require_dpkg()?;
    command::run(std::process::Command::new("dpkg-deb").arg("-x").arg(archive).arg(whole))?;
    let mut moved = Vec::new();
    for file in files_below(whole)? {
        if let Some(to) = destination(parts, &file.to_string_lossy()) {
            make_parent(&fresh.join(&to))?;
            fs_err::rename(whole.join(&file), fresh.join(&to))?;
            moved.push(to);
        }
    }
    ensure_complete(parts, moved.iter().map(PathBuf::as_path))
}

/// Every part must have found something.
fn ensure_complete<'a>(parts: &[&Part], found: impl Iterator<Item = &'a Path> + Clone) -> Result<()> {
    for part in parts {
        match part {
            Part::File { member, to, .. } => {
                ensure!(found.clone().any(|path| path == Path::new(to)), "{member} is not in it");
            }
            Part::Tree { prefix, to, .. } => {
                ensure!(found.clone().any(|path| path.starts_with(to)), "nothing below {prefix} is in it");
            }
            Part::Text { .. } => {}
        }
    }
    Ok(())
}

fn make_parent(file: &Path) -> Result<()> {
    if let Some(parent) = file.parent() {
        fs_err::create_dir_all(parent)?;
    }
    Ok(())
}

/// All files below a folder, relative to it.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs_err::read_dir(next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if let Ok(relative) = entry.path().strip_prefix(folder) {
                files.push(relative.to_path_buf());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Whether two files hold the same bytes; `false` if one cannot be read.
pub(crate) fn same_contents(left: &Path, right: &Path) -> bool {
    let open = |path: &Path| {
        let file = std::fs::File::open(path).ok()?;
        Some((file.metadata().ok()?.len(), std::io::BufReader::with_capacity(1 << 20, file)))
    };
    let (Some((left_len, mut left)), Some((right_len, mut right))) = (open(left), open(right)) else {
        return false;
    };
    if left_len != right_len {
        return false;
    }
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut rest = left_len;
    while rest > 0 {
        // At most the buffer's length, so it fits.
        let step = rest.min(a.len() as u64) as usize;
        if left.read_exact(&mut a[..step]).is_err()
            || right.read_exact(&mut b[..step]).is_err()
            || a[..step] != b[..step]
        {
            return false;
        }
        rest -= step as u64;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::setup::archives::WEIGHTS;

    fn wheel(folder: &Path) -> PathBuf {
        let path = folder.join("a.whl");
        let mut zip = zip::ZipWriter::new(fs_err::File::create(&path).unwrap());
        for (name, text) in
            [("pkg/lib/one.so.1", "one"), ("pkg/include/a/b.h", "b"), ("../out", "out"), ("pkg/no", "no")]
        {
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    #[test]
    fn only_what_is_asked_for_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let archive = wheel(folder.path());
        let file = Part::File { archive: WEIGHTS, member: "pkg/lib/one.so.1", to: "lib/one.so" };
        let tree = Part::Tree { archive: WEIGHTS, prefix: "pkg/include/", to: "include/" };
        let outside = Part::Tree { archive: WEIGHTS, prefix: "..", to: "x/" };
        let fresh = folder.path().join("fresh");
        unzip(&archive, &[&file, &tree], &fresh).unwrap();
        assert_eq!(
            files_below(&fresh).unwrap(),
            [PathBuf::from("include/a/b.h"), PathBuf::from("lib/one.so")]
        );
        let error = unzip(&archive, &[&outside], &fresh).unwrap_err();
        assert!(error.to_string().contains("nothing below"), "{error}");
    }

    #[test]
    fn a_missing_member_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let part = Part::File { archive: WEIGHTS, member: "pkg/lib/two.so", to: "two.so" };
        let error = unzip(&wheel(folder.path()), &[&part], folder.path()).unwrap_err();
        assert!(error.to_string().contains("pkg/lib/two.so"), "{error}");
    }

    #[test]
    fn files_are_compared_to_the_last_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut bytes = vec![7; (1 << 20) + 5];
        fs_err::write(path("a"), &bytes).unwrap();
        fs_err::write(path("b"), &bytes).unwrap();
        assert!(same_contents(&path("a"), &path("b")));
        *bytes.last_mut().unwrap() = 8;
        fs_err::write(path("b"), &bytes).unwrap();
        assert!(!same_contents(&path("a"), &path("b")));
        assert!(!same_contents(&path("a"), &path("missing")));
    }
}
