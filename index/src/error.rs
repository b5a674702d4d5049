//! What can go wrong with an index.

use std::{io, path::PathBuf};

/// Why an operation on an index failed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A file or folder cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no store here, and none was to be made.
    #[error("{}: there is no catalogue store here; index a catalogue first", path.display())]
    NotFound {
        /// The store's folder.
        path: PathBuf,
    },
    /// There is a store already where a new one was to be made.
    #[error("{}: there is a store here already", path.display())]
    Exists {
        /// The store's file.
        path: PathBuf,
    },
    /// Another process (or another handle of this one) has the store open.
    #[error("{}: the store is in use by another process", path.display())]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// The vectors in the store were made by another model.
    #[error("{}: the store holds vectors of model {found}, this is model {expected}; index the catalogue anew", path.display())]
    WrongModel {
        /// The store's file.
        path: PathBuf,
        /// Fingerprint of the model in use.
        expected: String,
        /// Fingerprint in the store.
        found: String,
    },
    /// The vectors in the store have another length.
    #[error("{}: the store holds vectors of {found} dimensions, not {expected}", path.display())]
    WrongDim {
        /// The store's file.
        path: PathBuf,
        /// Dimensions asked for.
        expected: usize,
        /// Dimensions in the store.
        found: usize,
    },
    /// The store's format is not one that this version can read.
    #[error("{}: store format {found}; this version reads format {supported}", path.display())]
    UnsupportedFormat {
        /// The store's file.
        path: PathBuf,
        /// Format in the store.
        found: u32,
        /// Newest format that this version reads.
        supported: u32,
    },
    /// The store's contents contradict themselves, or fail their checksums.
    #[error("{}: the store is damaged: {detail}", path.display())]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The storage engine failed.
    #[error("{}: {source}", path.display())]
    Storage {
        /// The store's file.
        path: PathBuf,
        /// What it said.
        source: Box<redb::Error>,
    },
    /// A group commit failed: whether it is on disk shows when the store is opened again, wholly or not at all.
    #[error("the write could not be committed: {detail}")]
    Commit {
        /// What the storage engine said.
        detail: String,
    },
    /// The engine that holds the index does not answer, or not as it should, or the storage of an index in this process has failed.
    /// Trying again later may help.
    #[error("the index at {place} does not answer: {detail}")]
    Unavailable {
        /// The engine's address and the collection.
        place: String,
        /// What happened last.
        detail: String,
    },
    /// The engine that holds the index refuses what was asked of it. Trying again does not help.
    #[error("the index at {place} refuses: {detail}")]
    Refused {
        /// The engine's address and the collection.
        place: String,
        /// What it said.
        detail: String,
    },
    /// The index is shutting down, or its writer has died.
    #[error("the index takes no more writes")]
    Closed,
    /// An item cannot be stored.
    #[error("item {id:?}: {reason}")]
    InvalidItem {
        /// The item.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A search names an item that is not there.
    #[error("there is no item {id:?}")]
    NoSuchItem {
        /// The item.
        id: String,
    },
    /// A search names a product that is not there.
    #[error("there is no product {id:?}")]
    NoSuchProduct {
        /// The product.
        id: String,
    },
    /// This kind of index cannot do that.
    #[error("this index cannot {operation}")]
    Unsupported {
        /// What was asked for, as a verb: "back up".
        operation: &'static str,
    },
    /// A search request cannot be answered.
    #[error("search request: {reason}")]
    InvalidRequest {
        /// What is wrong with it.
        reason: String,
    },
}
