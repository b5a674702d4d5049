//! Filling a store without searching it.

use std::path::Path;

use super::{FILLING_CACHE_BYTES, Store, Write, guarded};
use crate::{IndexError, Item, OpenOptions, VectorIndex};

/// What filling a catalogue takes. Every [`VectorIndex`] can be filled; a [`StoreWriter`] can only be filled.
pub trait ItemStore: Send + Sync {
    /// As [`VectorIndex::get`].
    ///
    /// # Errors
    /// The storage failed.
    fn get(&self, id: &str) -> Result<Option<Item>, IndexError>;

    /// As [`VectorIndex::upsert`]; whether the items can be found at once depends on what is filled.
    ///
    /// # Errors
    /// [`IndexError::InvalidItem`] names the first item that cannot be stored; otherwise the storage failed.
    fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError>;

    /// Number of items.
    ///
    /// # Errors
    /// The storage failed.
    fn count(&self) -> Result<usize, IndexError>;
}

impl<I: VectorIndex + ?Sized> ItemStore for I {
    fn get(&self, id: &str) -> Result<Option<Item>, IndexError> {
        VectorIndex::get(self, id)
    }

    fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError> {
        VectorIndex::upsert(self, items)
    }

    fn count(&self) -> Result<usize, IndexError> {
        VectorIndex::count(self)
    }
}

/// A store that is being filled. Unlike an open index it keeps nothing in memory but a few pages of the file, however many items
/// there are; [`EmbeddedIndex::open`](crate::EmbeddedIndex::open) makes what was written searchable.
pub struct StoreWriter {
    store: Store,
    dim: usize,
}

impl StoreWriter {
    /// Opens the store in a folder, or makes it. No other process may have it open for writing.
    ///
    /// # Errors
    /// As [`EmbeddedIndex::open`](crate::EmbeddedIndex::open).
    pub fn open(folder: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, IndexError> {
        options.check()?;
        let store = Store::open_caching(folder.as_ref(), options, FILLING_CACHE_BYTES)?;
        Ok(Self { store, dim: options.dim })
    }
}

impl ItemStore for StoreWriter {
    fn get(&self, id: &str) -> Result<Option<Item>, IndexError> {
        self.store.get(id)
    }

    fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError> {
        Item::check_all(&items, self.dim)?;
        self.store.write(&[Write::Upsert(items)]).map(|_| ())
    }

    fn count(&self) -> Result<usize, IndexError> {
        guarded(self.store.path(), || self.store.len())
    }
}
