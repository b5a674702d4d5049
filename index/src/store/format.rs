//! What a store says about itself: format, dimensions, model.

use std::path::Path;

use redb::{ReadableDatabase, TableDefinition, TableError};

use super::{IDS, ITEMS, Store, VECTORS, storage_error};
use crate::{IndexError, OpenOptions};

/// Format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// Facts about the store, by name.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_DIM: &str = "dim";
const META_MODEL: &str = "model_fingerprint";

/// The number that the next row gets.
pub(super) const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
pub(super) const NEXT_ROW: &str = "next_row";

/// What a store says about itself, as written.
struct Stamp {
    format: String,
    dim: String,
    model: String,
}

impl Store {
    /// Checks that the store belongs to this version and model; stamps it if it is new. True if it was new.
    pub(super) fn check_format(&self, folder: &Path, options: &OpenOptions) -> Result<bool, IndexError> {
        match self.stamp()? {
            Some(stamp) => self.check_stamp(&stamp, options).map(|()| false),
            None if options.create => self.write_stamp(options).map(|()| true),
            None => Err(IndexError::NotFound { path: folder.to_owned() }),
        }
    }

    fn stamp(&self) -> Result<Option<Stamp>, IndexError> {
        let read = self.db.begin_read().map_err(storage_error(&self.path))?;
        let table = match read.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(storage_error(&self.path)(error)),
        };
        let fact = |name: &str| match table.get(name) {
            Ok(Some(value)) => Ok(value.value().to_owned()),
            Ok(None) => Err(self.damaged(format!("it does not say its {name}"))),
            Err(error) => Err(storage_error(&self.path)(error)),
        };
        Ok(Some(Stamp { format: fact(META_FORMAT)?, dim: fact(META_DIM)?, model: fact(META_MODEL)? }))
    }

    fn check_stamp(&self, stamp: &Stamp, options: &OpenOptions) -> Result<(), IndexError> {
        let path = || self.path.clone();
        let number =
            |text: &str| text.parse::<u32>().map_err(|_| self.damaged(format!("{text:?} is not a number")));
        let format = number(&stamp.format)?;
        if format != FORMAT {
            return Err(IndexError::UnsupportedFormat { path: path(), found: format, supported: FORMAT });
        }
        if stamp.model != options.model_fingerprint {
            let (expected, found) = (options.model_fingerprint.clone(), stamp.model.clone());
            return Err(IndexError::WrongModel { path: path(), expected, found });
        }
        let found = number(&stamp.dim)? as usize;
        if found != options.dim {
            return Err(IndexError::WrongDim { path: path(), expected: options.dim, found });
        }
        Ok(())
    }

    fn write_stamp(&self, options: &OpenOptions) -> Result<(), IndexError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.db.begin_write()?;
            {
                let mut meta = transaction.open_table(META)?;
                meta.insert(META_FORMAT, FORMAT.to_string().as_str())?;
                meta.insert(META_DIM, options.dim.to_string().as_str())?;
                meta.insert(META_MODEL, options.model_fingerprint.as_str())?;
                transaction.open_table(COUNTERS)?.insert(NEXT_ROW, 0)?;
                transaction.open_table(IDS)?;
                transaction.open_table(ITEMS)?;
                transaction.open_table(VECTORS)?;
            }
            Ok(transaction.commit()?)
        };
        write().map_err(storage_error(&self.path))
    }
}
