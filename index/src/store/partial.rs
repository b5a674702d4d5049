//! Stores in the making: they get their name when they are complete, and leave nothing behind when they come to nothing.

use std::{fs, path::Path};

use tempfile::TempPath;

use super::{FILE, io_error, sync_folder};
use crate::IndexError;

/// How the names of files in the making begin and end. What is between is another each time, so that no process takes away
/// what another one is making in the same folder.
const BEGIN: &str = "catalogue.redb.";
const END: &str = ".partial";

/// An empty file in a folder, which is made if it is not there. Dropping the path removes the file.
pub(super) fn begin(folder: &Path) -> Result<TempPath, IndexError> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let file = tempfile::Builder::new()
        .prefix(BEGIN)
        .suffix(END)
        .make_in(folder, |path| fs::OpenOptions::new().write(true).create_new(true).open(path));
    Ok(file.map_err(io_error(folder))?.into_temp_path())
}

/// Gives a complete store its name in the folder, and makes that durable. Never in the place of a store that is there: another
/// process may have made it a moment ago, and be writing to it.
pub(super) fn publish(partial: TempPath, folder: &Path) -> Result<(), IndexError> {
    let target = folder.join(FILE);
    if let Err(failed) = partial.persist_noclobber(&target) {
        // Whatever went wrong: who was faster may also have swept this file away.
        let exists = target.try_exists().map_err(io_error(&target))?;
        return Err(if exists {
            IndexError::Exists { path: target }
        } else {
            io_error(&target)(failed.error)
        });
    }
    sync_folder(folder)?;
    sweep(folder);
    Ok(())
}

/// Removes what attempts that were killed have left in a folder with a store. Who is still at work on such a file is too late.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(BEGIN) && name.ends_with(END) {
            // A file that stays is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).expect("lists").map(|entry| entry.expect("an entry").path()).collect()
    }

    #[test]
    fn what_is_published_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join(FILE);
        let (first, second) =
            (begin(folder.path()).expect("begins"), begin(folder.path()).expect("begins beside it"));
        fs::write(&first, "the first").expect("writes");
        fs::write(&second, "the second").expect("writes");
        publish(first, folder.path()).expect("has its name");
        // The second was swept away with the first's success; one that was begun later fares no better.
        let third = begin(folder.path()).expect("begins");
        fs::write(&third, "the third").expect("writes");
        for late in [second, third] {
            let refused = publish(late, folder.path());
            assert!(matches!(&refused, Err(IndexError::Exists { path }) if *path == store), "{refused:?}");
        }
        assert_eq!(fs::read_to_string(&store).expect("reads"), "the first");
        assert_eq!(files(folder.path()), [store], "nothing is left behind");
    }

    #[test]
    fn what_comes_to_nothing_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("new/folder");
        let partial = begin(&inner).expect("begins");
        assert_eq!(files(&inner).len(), 1);
        drop(partial);
        assert!(files(&inner).is_empty());
        // Nor where it cannot get its name.
        let partial = begin(&inner).expect("begins");
        let failed = publish(partial, &folder.path().join("nowhere"));
        assert!(matches!(failed, Err(IndexError::Io { .. })), "{failed:?}");
        assert!(files(&inner).is_empty());
    }
}
