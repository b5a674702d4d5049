//! The valid keys, exchanged while the server runs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;

use super::{KeyError, KeyRing};

/// Time between two looks at the key file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where keys come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySource {
    /// The key file.
    pub file: Option<PathBuf>,
    /// The value of the variable.
    pub variable: Option<String>,
}

impl KeySource {
    fn read(&self) -> Result<KeyRing, KeyError> {
        let from_variable = match &self.variable {
            Some(text) => KeyRing::from_variable(text)?,
            None => KeyRing::default(),
        };
        let Some(path) = &self.file else { return Ok(from_variable) };
        let text =
            std::fs::read_to_string(path).map_err(|source| KeyError::Io { path: path.clone(), source })?;
        let wrong = |reason| KeyError::File { path: path.clone(), reason };
        KeyRing::from_toml(&text).map_err(wrong)?.joined(from_variable).map_err(wrong)
    }
}

/// The keys that are valid now; shared, and read anew when their file changes.
#[derive(Clone, Debug, Default)]
pub struct KeyStore {
    ring: Arc<ArcSwap<KeyRing>>,
    source: Arc<KeySource>,
    /// The file's version when the store was opened, so that what changes before [`KeyStore::follow`] starts is not missed.
    opened: Option<Version>,
}

impl KeyStore {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`KeyError`] names the file, or the key's place in the variable.
    pub fn open(source: KeySource) -> Result<Self, KeyError> {
        // Before the file is read: a change in between is then read twice instead of never.
        let opened = source.file.as_deref().and_then(version);
        let ring = Arc::new(ArcSwap::from_pointee(source.read()?));
        Ok(Self { ring, source: Arc::new(source), opened })
    }

    /// The valid keys.
    pub fn current(&self) -> Arc<KeyRing> {
        self.ring.load_full()
    }

    /// Whether a key is needed at all: one was configured at the start. A file that is emptied later locks everybody out rather
    /// than letting everybody in.
    pub fn required(&self) -> bool {
        self.source.file.is_some() || self.source.variable.is_some()
    }

    /// Reads the keys anew; the old ones stay valid if that fails.
    ///
    /// # Errors
    /// As [`KeyStore::open`].
    pub fn reload(&self) -> Result<usize, KeyError> {
        let ring = self.source.read()?;
        let count = ring.len();
        self.ring.store(Arc::new(ring));
        Ok(count)
    }

    /// Follows the key file until the future is dropped. Does nothing without a file.
    pub async fn follow(self) {
        let Some(path) = self.source.file.clone() else { return };
        let mut seen = self.opened;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = version(&path);
            if now == seen {
                continue;
            }
            seen = now;
            match self.reload() {
                Ok(keys) => tracing::info!(file = %path.display(), keys, "API keys read anew"),
                Err(error) => tracing::error!(%error, "the API keys stay as they were"),
            }
        }
    }
}

/// Time of the last change and length of a file: changes when the file does.
type Version = (SystemTime, u64);

fn version(path: &Path) -> Option<Version> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::NewKey;

    fn entry(name: &str, key: &NewKey) -> String {
        format!("[[key]]\nname = \"{name}\"\nscope = \"read\"\ndigest = \"{}\"\n", key.digest)
    }

    #[tokio::test]
    async fn keys_are_rotated_while_the_store_is_in_use() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("keys.toml");
        let (old, new) = (NewKey::generate(), NewKey::generate());
        std::fs::write(&file, entry("old", &old)).expect("write");
        let store = KeyStore::open(KeySource { file: Some(file.clone()), variable: None }).expect("readable");
        let following = tokio::spawn(store.clone().follow());
        assert!(store.required() && store.current().find(&old.secret).is_some());

        std::fs::write(&file, "this is not TOML = ").expect("write");
        assert!(store.reload().is_err());
        assert!(store.current().find(&old.secret).is_some(), "a broken file changes nothing");

        std::fs::write(&file, entry("new", &new)).expect("write");
        for _ in 0..100 {
            if store.current().find(&new.secret).is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(store.current().find(&new.secret).is_some(), "the new key is valid");
        assert!(store.current().find(&old.secret).is_none(), "the old one is not");
        following.abort();
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let source = KeySource { file: Some("/nowhere/keys.toml".into()), variable: None };
        assert!(KeyStore::open(source).expect_err("missing").to_string().contains("/nowhere/keys.toml"));
    }
}
