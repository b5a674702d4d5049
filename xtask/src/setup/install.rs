//! From a recipe to a folder: download, check, unpack, put in place, stamp.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::archives::{Archive, Source};
use super::components::{Part, Recipe};
use super::{apt, pip, unpack};

/// Counts changes of how components are laid out in their folders.
const LAYOUT: u32 = 1;
const STAGING_PREFIX: &str = ".setup-";

/// Keeps a second set-up out until dropped.
pub(crate) struct Lock {
    _file: fs_err::File,
}

/// Waits until no other set-up is at work in the cache, and removes what an interrupted one left.
pub(crate) fn lock(cache: &Path) -> Result<Lock> {
    let path = cache.join(".setup.lock");
    let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    match file.file().try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another set-up is at work in {}; waiting for it", cache.display());
            file.file().lock().context("waiting for the other set-up failed")?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("the cache folder cannot be locked"),
    }
    for entry in fs_err::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX) && entry.file_type()?.is_dir() {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(Lock { _file: file })
}

/// What a component's folder was made of; written last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    version: String,
    layout: u32,
    /// SHA-256 by file name.
    archives: BTreeMap<String, String>,
    /// Bytes by path in the folder, of the files that have a name in the recipe.
    files: BTreeMap<String, u64>,
}

impl Stamp {
    fn of(recipe: &Recipe, folder: &Path) -> Result<Self> {
        let archives = recipe.archives().iter().map(|a| (a.name.to_owned(), a.sha256.to_owned())).collect();
        let files = recipe.parts.iter().filter_map(|part| match part {
            Part::File { to, .. } | Part::Text { to, .. } => Some(*to),
            Part::Tree { .. } => None,
        });
        let files = files
            .map(|to| Ok((to.to_owned(), fs_err::metadata(folder.join(to))?.len())))
            .collect::<Result<_>>()?;
        Ok(Self { version: recipe.version.to_owned(), layout: LAYOUT, archives, files })
    }
}

/// How a component's folder looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    /// There is nothing.
    Missing,
    /// There is something, but it is not what set-up would make; why.
    Unsure(String),
}

/// Looks at a component's folder, without reading its files.
pub(crate) fn state(cache: &Path, recipe: &Recipe) -> State {
    let folder = recipe.path(cache);
    if !folder.exists() {
        return State::Missing;
    }
    let stamp = match fs_err::read(folder.join(recipe.stamp_name())) {
        Ok(text) => serde_json::from_slice::<Stamp>(&text),
        Err(_) if recipe.is_shared => return State::Missing,
        Err(_) => return State::Unsure("no record of a set-up".to_owned()),
    };
    match (stamp, Stamp::of(recipe, &folder)) {
        (Err(_), _) => State::Unsure("its record cannot be read".to_owned()),
        (_, Err(error)) => State::Unsure(format!("{error:#}")),
        (Ok(found), Ok(wanted)) if found == wanted => State::Ready,
        _ => State::Unsure("made of other archives, or changed since".to_owned()),
    }
}

/// A folder to unpack into, removed when dropped, or else by the next set-up.
pub(crate) fn staging(cache: &Path) -> Result<TempDir> {
    TempDir::with_prefix_in(STAGING_PREFIX, cache).context("cannot make a folder to unpack into")
}

/// Installs a component unless it is there.
pub(crate) fn ensure(cache: &Path, recipe: &Recipe) -> Result<()> {
    let name = format!("{} {}", recipe.component.name(), recipe.version);
    match state(cache, recipe) {
        State::Ready => return Ok(()),
        State::Missing => {}
        State::Unsure(why) => eprintln!("{name}: made anew ({why})"),
    }
    let downloads = cache.join("downloads");
    fs_err::create_dir_all(&downloads)?;
    let mut found = Vec::new();
    for archive in recipe.archives() {
        found.push((archive.name, fetch(&downloads, &archive)?));
    }
    let path_of = |archive: &Archive| {
        let found = found.iter().find(|(name, _)| *name == archive.name);
        found.map(|(_, path)| path.as_path()).with_context(|| format!("{} was not fetched", archive.name))
    };
    let staging = staging(cache)?;
    let fresh = staging.path().join("new");
    fs_err::create_dir(&fresh)?;
    unpack::unpack(recipe, path_of, &fresh, staging.path())
        .with_context(|| format!("{name} cannot be unpacked"))?;
    let stamp = serde_json::to_vec_pretty(&Stamp::of(recipe, &fresh)?)?;
    fs_err::write(fresh.join(recipe.stamp_name()), stamp)?;
    put_in_place(&fresh, &recipe.path(cache), &staging.path().join("old"), recipe)?;
    ensure!(
        state(cache, recipe) == State::Ready,
        "{name} was changed by someone else while it was installed"
    );
    eprintln!("{name}: installed in {}", recipe.path(cache).display());
    Ok(())
}

/// Moves a finished folder to where it belongs. What is there already and has the same contents is kept, so that
/// programs that are using it see no change.
fn put_in_place(fresh: &Path, target: &Path, old: &Path, recipe: &Recipe) -> Result<()> {
    if !target.exists() {
        return Ok(fs_err::rename(fresh, target)?);
    }
    let stamp = recipe.stamp_name();
    let mut files = unpack::files_below(fresh)?;
    files.retain(|file| !file.ends_with(&stamp));
    let is_same = files.iter().all(|file| unpack::same_contents(&fresh.join(file), &target.join(file)));
    if !is_same && !recipe.is_shared {
        fs_err::rename(target, old)?;
        return Ok(fs_err::rename(fresh, target)?);
    }
    if !is_same {
        for file in &files {
            fs_err::rename(fresh.join(file), target.join(file))?;
        }
    }
    Ok(fs_err::rename(fresh.join(&stamp), target.join(&stamp))?)
}

/// An archive in the downloads folder whose hash fits: one that is there, or a fresh one.
fn fetch(downloads: &Path, archive: &Archive) -> Result<PathBuf> {
    let target = downloads.join(archive.name);
    if is_kept(&target, archive.sha256)? {
        return Ok(target);
    }
    eprintln!("fetching {} ({} MB)", archive.name, archive.megabytes);
    let partial =
        TempDir::with_prefix_in(".partial-", downloads).context("cannot make a folder to download into")?;
    let by_hand = format!(
        "or put {} (SHA-256 {}) into {} by hand, and run the command again",
        archive.name,
        archive.sha256,
        downloads.display()
    );
    match archive.source {
        Source::Wheel(requirement) => pip::download(archive, requirement, partial.path(), &by_hand)?,
        Source::Debian(package) => apt::download(package, partial.path(), downloads, &by_hand)?,
    }
    let fetched = partial.path().join(archive.name);
    let hash = sha256(&fetched).with_context(|| format!("{} did not arrive", archive.name))?;
    if hash != archive.sha256 {
        bail!("{} has SHA-256 {hash} and should have {}: it is not used", archive.name, archive.sha256);
    }
    fs_err::rename(fetched, &target)?;
    Ok(target)
}

/// Whether a finished download is there; a damaged one is removed.
fn is_kept(file: &Path, wanted: &str) -> Result<bool> {
    if !file.is_file() {
        return Ok(false);
    }
    let is_whole = sha256(file)? == wanted;
    if !is_whole {
        eprintln!("{}: damaged; fetched again", file.display());
        fs_err::remove_file(file)?;
    }
    Ok(is_whole)
}

/// SHA-256 of a file in hexadecimal; shows progress for large ones.
fn sha256(path: &Path) -> Result<String> {
    let file = fs_err::File::open(path)?;
    let bytes = file.metadata()?.len();
    let bar = if bytes > 50_000_000 { ProgressBar::new(bytes) } else { ProgressBar::hidden() };
    bar.set_style(bytes_style());
    bar.set_prefix("checking");
    let mut hasher = Sha256::new();
    let mut reader = bar.wrap_read(file);
    let mut block = vec![0; 1 << 20];
    loop {
        match reader.read(&mut block).with_context(|| path.display().to_string())? {
            0 => break,
            n => hasher.update(&block[..n]),
        }
    }
    bar.finish_and_clear();
    Ok(hex::encode(hasher.finalize()))
}

/// A bar that counts bytes.
pub(crate) fn bytes_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:10} {wide_bar} {bytes}/{total_bytes}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::super::components::Component;
    use super::*;

    fn recipe(contents: &'static str, is_shared: bool) -> Recipe {
        let parts = vec![Part::Text { to: "sub/words", contents }];
        Recipe { component: Component::Weights, version: "1", folder: "thing", is_shared, parts }
    }

    #[test]
    fn installs_once_and_notices_changes() {
        let cache = tempfile::tempdir().unwrap();
        let first = recipe("first", false);
        assert_eq!(state(cache.path(), &first), State::Missing);
        ensure(cache.path(), &first).unwrap();
        assert_eq!(state(cache.path(), &first), State::Ready);

        let file = cache.path().join("thing/sub/words");
        let made = fs_err::metadata(&file).unwrap().modified().unwrap();
        ensure(cache.path(), &first).unwrap();
        assert_eq!(fs_err::metadata(&file).unwrap().modified().unwrap(), made, "installed twice");

        fs_err::write(&file, "cut").unwrap();
        assert!(matches!(state(cache.path(), &first), State::Unsure(_)));
        ensure(cache.path(), &first).unwrap();
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "first");
        let left: Vec<_> = fs_err::read_dir(cache.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "only the component and the downloads: {left:?}");
    }

    #[test]
    fn what_is_there_and_the_same_is_adopted() {
        let cache = tempfile::tempdir().unwrap();
        let recipe = recipe("the same", false);
        fs_err::create_dir_all(cache.path().join("thing/sub")).unwrap();
        let file = cache.path().join("thing/sub/words");
        fs_err::write(&file, "the same").unwrap();
        let opened = fs_err::metadata(&file).unwrap().modified().unwrap();
        ensure(cache.path(), &recipe).unwrap();
        assert_eq!(state(cache.path(), &recipe), State::Ready);
        assert_eq!(fs_err::metadata(&file).unwrap().modified().unwrap(), opened, "replaced");
    }

    #[test]
    fn a_shared_folder_keeps_what_others_put_there() {
        let cache = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(cache.path().join("thing/sub")).unwrap();
        fs_err::write(cache.path().join("thing/mine"), "mine").unwrap();
        fs_err::write(cache.path().join("thing/sub/words"), "older").unwrap();
        ensure(cache.path(), &recipe("newer", true)).unwrap();
        assert_eq!(fs_err::read_to_string(cache.path().join("thing/mine")).unwrap(), "mine");
        assert_eq!(fs_err::read_to_string(cache.path().join("thing/sub/words")).unwrap(), "newer");
    }

    #[test]
    fn a_damaged_download_is_not_used() {
        let downloads = tempfile::tempdir().unwrap();
        let file = downloads.path().join("thing.whl");
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(!is_kept(&file, of_abc).unwrap());
        fs_err::write(&file, "abc").unwrap();
        assert!(is_kept(&file, of_abc).unwrap());
        fs_err::write(&file, "ab").unwrap();
        assert!(!is_kept(&file, of_abc).unwrap());
        assert!(!file.exists(), "the damaged file is still there");
    }
}
