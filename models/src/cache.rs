//! Where downloads, runtimes and demo data are kept between runs.

use std::path::PathBuf;

/// The cache directory: `$DFML_CACHE_DIR` if set and not empty, else `dfml` under the user's cache directory.
///
/// Nothing is created. Where the platform has no cache directory (no home), `.dfml-cache` in the working
/// directory is used, so that a container without a home still works.
pub fn cache_dir() -> PathBuf {
    match std::env::var_os("DFML_CACHE_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => dirs::cache_dir().map_or_else(|| PathBuf::from(".dfml-cache"), |dir| dir.join("dfml")),
    }
}
