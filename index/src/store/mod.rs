//! The truth on disk: one redb file with the items, their vectors and what made them.
//!
//! Every upsert gets a row number; numbers only grow. A row is never changed: replacing an item removes its row and
//! adds a new one.

mod format;
mod read;
mod write;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, TableDefinition};

use crate::{IndexError, OpenOptions};

pub(crate) use read::Record;
pub(crate) use write::{Change, Write};

/// File name of the store in its folder.
const FILE: &str = "catalogue.redb";
/// Memory for redb's page cache. Searches read only the records of their hits from the file; the system caches the rest.
const CACHE_BYTES: usize = 64 << 20;

/// Row number of each item id.
const IDS: TableDefinition<'_, &str, u64> = TableDefinition::new("ids");
/// Item id, product id and metadata (a JSON object) of each row.
const ITEMS: TableDefinition<'_, u64, (&str, &str, &[u8])> = TableDefinition::new("items");
/// Vector of each row, little-endian f32.
const VECTORS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("vectors");

/// An open store. Holds the file's lock as long as it lives.
pub(crate) struct Store {
    db: Database,
    path: PathBuf,
    dim: usize,
}

impl Store {
    /// Opens the store in a folder, checks the file's checksums and that it belongs to this model. Makes a new one if there is
    /// none and the options say so.
    pub(crate) fn open(folder: &Path, options: &OpenOptions) -> Result<Self, IndexError> {
        let path = folder.join(FILE);
        if options.create {
            fs::create_dir_all(folder).map_err(io_error(folder))?;
        } else if !path.try_exists().map_err(io_error(&path))? {
            return Err(IndexError::NotFound { path: folder.to_owned() });
        }
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let db = builder.create(&path).map_err(storage_error(&path))?;
        let store = Self { db, path, dim: options.dim };
        if store.check_format(folder, options)? {
            sync_folder(folder)?;
        }
        Ok(store)
    }

    /// The store's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn damaged(&self, detail: impl Into<String>) -> IndexError {
        IndexError::Damaged { path: self.path.clone(), detail: detail.into() }
    }
}

/// Makes the file's name durable: the folder's own entry and the one that names it in its parent.
fn sync_folder(folder: &Path) -> Result<(), IndexError> {
    let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all()).map_err(io_error(path));
    sync(folder)?;
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        Some(_) => sync(Path::new(".")),
        None => Ok(()),
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> IndexError {
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
