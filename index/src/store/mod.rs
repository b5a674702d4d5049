//! The truth on disk: one redb file with the items, their vectors and what made them.
//!
//! Every upsert gets a row number; numbers only grow. The vector of a row is never changed: replacing an item removes its row and
//! adds a new one. Each row has a checksum, which is checked whenever the whole row is read.

mod backup;
mod failure;
mod format;
mod partial;
mod read;
mod reader;
mod salvage;
mod sums;
mod verify;
mod write;
mod writer;

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use parking_lot::{Mutex, RwLock};
use redb::{Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, TableDefinition};

use crate::{IndexError, OpenOptions, graph};

pub use format::StoreFacts;
pub(crate) use read::Record;
pub use reader::StoreReader;
pub use salvage::SalvageReport;
pub use verify::VerifyReport;
pub(crate) use write::{Change, Part, Write};
pub use writer::{ItemStore, StoreWriter};

/// File name of the store in its folder.
const FILE: &str = "catalogue.redb";
/// Memory for redb's page cache. Searches read only the records of their hits from the file; the system caches the rest.
const CACHE_BYTES: usize = 64 << 20;
/// The same where a store is only filled: what is written is not read again soon.
const FILLING_CACHE_BYTES: usize = 8 << 20;

/// Row number of each item id.
const IDS: TableDefinition<'_, &str, u64> = TableDefinition::new("ids");
/// Item id, product id and metadata (a JSON object) of each row.
const ITEMS: TableDefinition<'_, u64, (&str, &str, &[u8])> = TableDefinition::new("items");
/// Vector of each row, little-endian f32.
const VECTORS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("vectors");

/// A handle of the storage engine. One process at a time may write; others may read beside it.
enum Handle {
    Writing(Database),
    Reading(ReadOnlyDatabase),
    /// The storage has failed, and the file could not be opened again yet.
    Closed,
}

/// An open store. Holds the file's lock as long as it lives.
pub(crate) struct Store {
    /// Written only to open the file again, which waits for nothing but the transaction that is being written.
    db: RwLock<Handle>,
    path: PathBuf,
    dim: usize,
    cache_bytes: usize,
    /// Why the storage engine refuses everything, until the file is opened again.
    failure: Mutex<Option<String>>,
}

impl Store {
    /// Opens the store in a folder, checks the file's checksums and that it belongs to this model. Makes a new one if there is
    /// none and the options say so.
    pub(crate) fn open(folder: &Path, options: &OpenOptions) -> Result<Self, IndexError> {
        Self::open_caching(folder, options, CACHE_BYTES)
    }

    /// As [`Store::open`], with this much memory for pages of the file.
    fn open_caching(folder: &Path, options: &OpenOptions, cache_bytes: usize) -> Result<Self, IndexError> {
        let path = folder.join(FILE);
        if !path.try_exists().map_err(io_error(&path))? {
            if !options.create {
                return Err(IndexError::NotFound { path: folder.to_owned() });
            }
            match Self::create(folder, options) {
                // Another process may have been faster. Which of the two has the store is settled by opening it.
                Ok(()) | Err(IndexError::Exists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let db = Handle::Writing(open_database(&path, cache_bytes)?);
        let store = Self::new(db, path, options.dim, cache_bytes);
        store.check_format(options)?;
        Ok(store)
    }

    fn new(db: Handle, path: PathBuf, dim: usize, cache_bytes: usize) -> Self {
        Self { db: RwLock::new(db), path, dim, cache_bytes, failure: Mutex::new(None) }
    }

    /// Makes an empty store. It appears under its name only when it is complete, so that a file which says nothing, an empty one
    /// say, is never a new store: it is one that has lost what it had.
    fn create(folder: &Path, options: &OpenOptions) -> Result<(), IndexError> {
        let (graph, target) = (folder.join(graph::FILE), folder.join(FILE));
        let exists = |path: &Path| path.try_exists().map_err(io_error(path));
        // In this order: another process may be making the store now, and its graph comes after it.
        if exists(&graph)? && !exists(&target)? {
            let detail = format!("the file is gone; {} shows that there was one", graph::FILE);
            return Err(IndexError::Damaged { path: target, detail });
        }
        let partial = partial::begin(folder)?;
        drop(Self::make(&partial, options)?);
        partial::publish(partial, folder)
    }

    /// A new store in this file, which is empty or not there.
    fn make(file: &Path, options: &OpenOptions) -> Result<Self, IndexError> {
        let db = Handle::Writing(create_database(file)?);
        let store = Self::new(db, file.to_owned(), options.dim, CACHE_BYTES);
        store.write_stamp(options)?;
        Ok(store)
    }

    /// Opens the store in a folder for reading only, whatever model made its vectors. Another process may be writing.
    pub(crate) fn open_reading(folder: &Path) -> Result<(Self, StoreFacts), IndexError> {
        let path = folder.join(FILE);
        if !path.try_exists().map_err(io_error(&path))? {
            return Err(IndexError::NotFound { path: folder.to_owned() });
        }
        let mut store = Self::new(Handle::Reading(open_for_reading(&path)?), path, 0, CACHE_BYTES);
        let facts = guarded(&store.path, || store.facts())?;
        let facts = facts.ok_or_else(|| store.says_nothing())?;
        if facts.format != format::FORMAT {
            let (found, supported) = (facts.format, format::FORMAT);
            return Err(IndexError::UnsupportedFormat { path: store.path, found, supported });
        }
        store.dim = facts.dim;
        Ok((store, facts))
    }

    /// Gives the file's unused pages back to the system. Returns its size before and after, in bytes.
    pub(crate) fn shrink(folder: &Path) -> Result<(u64, u64), IndexError> {
        let path = folder.join(FILE);
        if !path.try_exists().map_err(io_error(&path))? {
            return Err(IndexError::NotFound { path: folder.to_owned() });
        }
        let size = || fs::metadata(&path).map(|file| file.len()).map_err(io_error(&path));
        let before = size()?;
        let mut db = open_database(&path, CACHE_BYTES)?;
        // It moves pages in several steps; a step that moved nothing is the last.
        guarded(&path, || {
            while db.compact().map_err(storage_error(&path))? {}
            Ok(())
        })?;
        drop(db);
        Ok((before, size()?))
    }

    /// The store's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file, in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    fn says_nothing(&self) -> IndexError {
        self.damaged("it does not say what it is")
    }

    fn damaged(&self, detail: impl Into<String>) -> IndexError {
        IndexError::Damaged { path: self.path.clone(), detail: detail.into() }
    }
}

/// Opens the file of a store and checks all its checksums.
fn open_database(path: &Path, cache_bytes: usize) -> Result<Database, IndexError> {
    refuse_empty(path)?;
    guarded(path, || {
        builder(cache_bytes).set_check_integrity_on_open(true).open(path).map_err(storage_error(path))
    })
}

fn create_database(path: &Path) -> Result<Database, IndexError> {
    guarded(path, || builder(CACHE_BYTES).create(path).map_err(storage_error(path)))
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

fn refuse_empty(path: &Path) -> Result<(), IndexError> {
    if fs::metadata(path).map_err(io_error(path))?.len() > 0 {
        return Ok(());
    }
    Err(IndexError::Damaged { path: path.to_owned(), detail: "the file is empty".into() })
}

fn open_for_reading(path: &Path) -> Result<ReadOnlyDatabase, IndexError> {
    refuse_empty(path)?;
    let open = || builder(CACHE_BYTES).open_read_only(path);
    guarded(path, || match open() {
        // Its last writer was killed. Opening it for writing puts it in order.
        Err(DatabaseError::RepairAborted) => {
            drop(open_database(path, CACHE_BYTES)?);
            open().map_err(storage_error(path))
        }
        opened => opened.map_err(storage_error(path)),
    })
}

/// Runs something that reads a file which may be damaged. The storage engine may panic on one; that is damage, too.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
        Err(IndexError::Damaged {
            path: path.to_owned(),
            detail: format!("the storage engine gave up: {text}"),
        })
    })
}

/// Makes the names in a folder durable: the folder's own entry and the one that names it in its parent.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), IndexError> {
    let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all()).map_err(io_error(path));
    sync(folder)?;
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        Some(_) => sync(Path::new(".")),
        None => Ok(()),
    }
}

pub(crate) fn io_error(path: &Path) -> impl Fn(io::Error) -> IndexError {
    move |source| IndexError::Io { path: path.to_owned(), source }
}

/// Turns an error of the storage engine into ours.
fn storage_error<E: Into<redb::Error>>(path: &Path) -> impl Fn(E) -> IndexError {
    move |error| {
        let path = path.to_owned();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => IndexError::InUse { path },
            redb::Error::Corrupted(detail) => IndexError::Damaged { path, detail },
            redb::Error::Io(source)
                if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                IndexError::Damaged { path, detail: source.to_string() }
            }
            redb::Error::Io(source) => IndexError::Io { path, source },
            source => IndexError::Storage { path, source: Box::new(source) },
        }
    }
}
