//! Files that are there whole or not at all.

use std::{
    io::{self, Write as _},
    path::Path,
};

/// Writes `bytes` to a temporary file beside `path`, flushes it to disk, and renames it to `path`. Everybody may read it.
///
/// # Errors
/// What the system said; the error names the file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name_it =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(name_it)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(name_it)?;
    make_readable(&file).map_err(name_it)?;
    file.persist(path).map_err(|error| name_it(error.error))?;
    Ok(())
}

/// Temporary files are private by default; a model, for one, is meant to be read by a server under another user.
#[cfg(unix)]
fn make_readable(file: &tempfile::NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_: &tempfile::NamedTempFile) -> io::Result<()> {
    Ok(())
}
