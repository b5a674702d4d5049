//! A store for reading only, beside the process that writes it.

use std::path::Path;

use super::{Store, StoreFacts, VerifyReport, guarded};
use crate::{IndexError, Item};

/// A catalogue's store, without anything in memory: to look at it, copy it or write it out while a server uses it.
pub struct StoreReader {
    store: Store,
    facts: StoreFacts,
}

impl StoreReader {
    /// Opens the store in a folder. Another process may have it open, and go on writing.
    ///
    /// # Errors
    /// [`IndexError::NotFound`] if there is none, [`IndexError::UnsupportedFormat`] if it has to be brought up to date by
    /// [`EmbeddedIndex::open`](crate::EmbeddedIndex::open) first, [`IndexError::Damaged`] if it cannot be read.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, IndexError> {
        let (store, facts) = Store::open_reading(folder.as_ref())?;
        Ok(Self { store, facts })
    }

    /// What the store says about itself.
    pub fn facts(&self) -> &StoreFacts {
        &self.facts
    }

    /// Number of items.
    ///
    /// # Errors
    /// The storage failed.
    pub fn count(&self) -> Result<usize, IndexError> {
        guarded(self.store.path(), || self.store.len())
    }

    /// Size of the store on disk, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.store.disk_bytes()
    }

    /// Up to `limit` items in order of their ids, starting after the id `after` (from the first if `None`).
    ///
    /// # Errors
    /// [`IndexError::Damaged`] if an item fails its checksum; otherwise the storage failed.
    pub fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, IndexError> {
        guarded(self.store.path(), || self.store.page(after, limit))
    }

    /// Whether there is an item with this id.
    ///
    /// # Errors
    /// The storage failed.
    pub fn contains(&self, id: &str) -> Result<bool, IndexError> {
        guarded(self.store.path(), || self.store.contains(id))
    }

    /// Reads every item, checks it against its checksum, and checks that ids and items belong to each other and that there are as
    /// many of everything as the store says.
    ///
    /// # Errors
    /// The storage failed. What is wrong with single items is in the report.
    pub fn verify(&self) -> Result<VerifyReport, IndexError> {
        self.store.verify()
    }

    /// Writes a consistent copy into a new folder. Returns the number of items in it.
    ///
    /// # Errors
    /// [`IndexError::Exists`] if there is a store in the folder already, [`IndexError::Damaged`] if this one has not all that it
    /// says it has; otherwise the storage failed. Then nothing is left of the copy.
    pub fn backup(&self, folder: impl AsRef<Path>) -> Result<usize, IndexError> {
        guarded(self.store.path(), || self.store.backup(folder.as_ref()))
    }
}
