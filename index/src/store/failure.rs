//! When the storage fails: a full disk, a broken one.
//!
//! After a write or a read of the file has failed, the storage engine refuses everything until the file is opened again. So the
//! first reason is kept, for whoever asks how the store is, and the store can be opened again in its place.

use super::{Handle, Store, open_database, storage_error};
use crate::IndexError;

impl Store {
    /// Turns an error of the storage engine into ours, and notes it if the engine refuses everything from now on.
    pub(super) fn failed(&self, error: impl Into<redb::Error>) -> IndexError {
        let error: redb::Error = error.into();
        if matches!(error, redb::Error::Io(_) | redb::Error::Backend(_) | redb::Error::PreviousIo) {
            self.failure.lock().get_or_insert_with(|| error.to_string());
        }
        storage_error(&self.path)(error)
    }

    /// Why the storage has failed, until [`Store::recovered`].
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Whether the storage works, as far as is known.
    pub(crate) fn check(&self) -> Result<(), IndexError> {
        match self.failure() {
            Some(reason) => Err(self.unavailable(&reason)),
            None => Ok(()),
        }
    }

    /// What is answered while the storage does not work.
    pub(crate) fn unavailable(&self, reason: &str) -> IndexError {
        let detail = format!(
            "its storage has failed ({reason}); make room or mend the disk, the store is then opened again by itself"
        );
        IndexError::Unavailable { place: self.path.display().to_string(), detail }
    }

    /// Opens the file again, for writing, with all its checks. The store counts as failed until [`Store::recovered`]: whether
    /// the commit that failed is on disk has to be found out first. Reads that are under way fail.
    pub(crate) fn reopen(&self) -> Result<(), IndexError> {
        let mut db = self.db.write();
        // First the old one is closed: it holds the file's lock.
        *db = Handle::Closed;
        *db = Handle::Writing(open_database(&self.path, self.cache_bytes)?);
        Ok(())
    }

    /// Opening the store again was in vain, for this reason.
    pub(crate) fn still_failing(&self, error: &IndexError) {
        *self.failure.lock() = Some(error.to_string());
    }

    /// The store is open again, and whoever holds a copy of what is in it has followed.
    pub(crate) fn recovered(&self) {
        *self.failure.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{Item, OpenOptions, store::Write};

    fn item(id: &str) -> Item {
        Item { id: id.into(), product_id: "p".into(), vector: vec![1.0, 0.0], ..Item::default() }
    }

    #[test]
    fn a_failed_storage_says_so_until_the_store_is_open_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = OpenOptions { create: true, ..OpenOptions::new(2, "model") };
        let store = Store::open(folder.path(), &options).expect("opens");
        store.write(&[Write::Upsert(vec![item("a")])]).expect("writes");
        // What is wrong with a value or with the file's contents is no failure of the storage.
        store.failed(redb::Error::ValueTooLarge(1));
        store.failed(redb::Error::Corrupted("a row".into()));
        assert!(store.check().is_ok());
        // The first reason is the one that says something.
        let full = || redb::Error::Io(io::Error::from(io::ErrorKind::StorageFull));
        let error = store.failed(full());
        assert!(matches!(error, IndexError::Io { .. }), "{error}");
        store.failed(redb::Error::PreviousIo);
        let Err(IndexError::Unavailable { place, detail }) = store.check() else {
            panic!("a failed store is not ready")
        };
        assert!(place.ends_with("catalogue.redb"), "{place}");
        assert!(detail.contains(&full().to_string()) && detail.contains("make room"), "{detail}");
        store.reopen().expect("opens again");
        assert!(store.check().is_err(), "it is open, and nobody has followed it yet");
        store.recovered();
        store.check().expect("works");
        store.write(&[Write::Upsert(vec![item("b")])]).expect("writes again");
        assert_eq!(store.len().expect("counts"), 2);
    }

    #[test]
    fn a_store_that_cannot_be_opened_again_answers_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = OpenOptions { create: true, ..OpenOptions::new(2, "model") };
        let store = Store::open(folder.path(), &options).expect("opens");
        store.failed(redb::Error::PreviousIo);
        let away = folder.path().join("away");
        std::fs::rename(store.path(), &away).expect("moves");
        let error = store.reopen().expect_err("the file is gone");
        store.still_failing(&error);
        let Err(IndexError::Unavailable { detail, .. }) = store.get("a") else { panic!("there is no store") };
        assert!(detail.contains(&error.to_string()), "{detail}");
        assert!(store.write(&[Write::Barrier]).is_err());
        std::fs::rename(&away, store.path()).expect("moves back");
        store.reopen().expect("opens again");
        store.recovered();
        assert_eq!(store.get("a").expect("reads"), None);
    }
}
