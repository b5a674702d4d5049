//! Files that survive a crash of the machine from the moment on that they are said to be there.

use std::{io, path::Path};

/// Writes a file into a folder that is there, whole or not at all.
///
/// # Errors
/// What the system said. The file may be there all the same, if only its name could not be made to last.
pub(super) fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    dfml_models::write_atomically(path, contents)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder last: a file whose contents are safe can still be lost with its name.
///
/// # Errors
/// What the system said.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match fs_err::File::open(folder)?.sync_all() {
        // Some file systems, such as some that lie on another machine, look after their names themselves.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left_behind() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("record.json");
        for contents in ["a longer text", "short"] {
            write(&path, contents.as_bytes()).expect("writable");
            assert_eq!(fs_err::read_to_string(&path).expect("readable"), contents);
            // Pictures that were sent in are also for other programs on the machine.
            #[cfg(unix)]
            assert_eq!(
                std::os::unix::fs::MetadataExt::mode(&fs_err::metadata(&path).expect("there")) & 0o777,
                0o644
            );
        }
        assert_eq!(fs_err::read_dir(folder.path()).expect("readable").count(), 1);
        assert!(write(&folder.path().join("nowhere/record.json"), b"").is_err(), "folders are not made");
    }
}
