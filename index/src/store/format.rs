//! What a store says about itself: format, dimensions, model. Older formats are brought up to date when they are opened.
//!
//! | format | what is new |
//! |---|---|
//! | 1 | rows, ids, vectors |
//! | 2 | a checksum of each row |

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::{
    Handle, IDS, ITEMS, Store, VECTORS,
    sums::{SUMS, row_sum},
};
use crate::{IndexError, OpenOptions};

/// Format that this version writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 2;
/// The oldest format that can be brought up to date.
const FORMAT_OLDEST: u32 = 1;

/// Facts about the store, by name.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_DIM: &str = "dim";
const META_MODEL: &str = "model_fingerprint";

/// The number that the next row gets.
pub(super) const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
pub(super) const NEXT_ROW: &str = "next_row";

/// What a store says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFacts {
    /// Version of the format on disk.
    pub format: u32,
    /// Length of the vectors.
    pub dim: usize,
    /// The model that made the vectors.
    pub model_fingerprint: String,
}

impl Store {
    /// Checks that the store belongs to this version and model, and brings an older format up to date.
    pub(super) fn check_format(&self, options: &OpenOptions) -> Result<(), IndexError> {
        let facts = self.facts()?.ok_or_else(|| self.says_nothing())?;
        self.check_facts(&facts, options)?;
        if facts.format < FORMAT {
            tracing::info!(store = %self.path.display(), from = facts.format, to = FORMAT, "upgrading the store");
            self.upgrade()?;
        }
        Ok(())
    }

    /// What the store says about itself; `None` if it says nothing.
    pub(super) fn facts(&self) -> Result<Option<StoreFacts>, IndexError> {
        let read = self.begin_read()?;
        self.facts_in(&read)
    }

    pub(super) fn facts_in(&self, read: &ReadTransaction) -> Result<Option<StoreFacts>, IndexError> {
        let table = match read.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let fact = |name: &str| match table.get(name) {
            Ok(Some(value)) => Ok(value.value().to_owned()),
            Ok(None) => Err(self.damaged(format!("it does not say its {name}"))),
            Err(error) => Err(self.failed(error)),
        };
        let number = |name: &str| {
            let text = fact(name)?;
            text.parse::<u32>().map_err(|_| self.damaged(format!("its {name} is {text:?}, not a number")))
        };
        Ok(Some(StoreFacts {
            format: number(META_FORMAT)?,
            dim: number(META_DIM)? as usize,
            model_fingerprint: fact(META_MODEL)?,
        }))
    }

    fn check_facts(&self, facts: &StoreFacts, options: &OpenOptions) -> Result<(), IndexError> {
        let path = || self.path.clone();
        if !(FORMAT_OLDEST..=FORMAT).contains(&facts.format) {
            return Err(IndexError::UnsupportedFormat {
                path: path(),
                found: facts.format,
                supported: FORMAT,
            });
        }
        if facts.model_fingerprint != options.model_fingerprint {
            let (expected, found) = (options.model_fingerprint.clone(), facts.model_fingerprint.clone());
            return Err(IndexError::WrongModel { path: path(), expected, found });
        }
        if facts.dim != options.dim {
            return Err(IndexError::WrongDim { path: path(), expected: options.dim, found: facts.dim });
        }
        Ok(())
    }

    /// Writes what a new store says about itself.
    pub(super) fn write_stamp(&self, options: &OpenOptions) -> Result<(), IndexError> {
        let facts = StoreFacts {
            format: FORMAT,
            dim: options.dim,
            model_fingerprint: options.model_fingerprint.clone(),
        };
        let handle = self.db.read();
        let Handle::Writing(db) = &*handle else { return Err(IndexError::Closed) };
        let write = || -> Result<(), redb::Error> {
            let transaction = db.begin_write()?;
            stamp(&transaction, &facts, 0)?;
            Ok(transaction.commit()?)
        };
        write().map_err(|error| self.failed(error))
    }

    /// From format 1 to 2: sums every row, in one transaction.
    fn upgrade(&self) -> Result<(), IndexError> {
        let handle = self.db.read();
        let Handle::Writing(db) = &*handle else { return Err(IndexError::Closed) };
        let upgrade = || -> Result<(), redb::Error> {
            let transaction = db.begin_write()?;
            {
                let items = transaction.open_table(ITEMS)?;
                let vectors = transaction.open_table(VECTORS)?;
                let mut sums = transaction.open_table(SUMS)?;
                for entry in items.iter()? {
                    let (row, item) = entry?;
                    let (id, product_id, metadata) = item.value();
                    let vector = vectors.get(row.value())?;
                    let vector = vector.as_ref().map_or(&[][..], |bytes| bytes.value());
                    sums.insert(row.value(), row_sum(row.value(), id, product_id, metadata, vector))?;
                }
                transaction.open_table(META)?.insert(META_FORMAT, FORMAT.to_string().as_str())?;
            }
            Ok(transaction.commit()?)
        };
        upgrade().map_err(|error| self.failed(error))
    }
}

/// Writes what a store says about itself, and makes all its tables.
pub(super) fn stamp(
    transaction: &WriteTransaction,
    facts: &StoreFacts,
    next_row: u64,
) -> Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(META_FORMAT, facts.format.to_string().as_str())?;
    meta.insert(META_DIM, facts.dim.to_string().as_str())?;
    meta.insert(META_MODEL, facts.model_fingerprint.as_str())?;
    transaction.open_table(COUNTERS)?.insert(NEXT_ROW, next_row)?;
    transaction.open_table(IDS)?;
    transaction.open_table(ITEMS)?;
    transaction.open_table(VECTORS)?;
    transaction.open_table(SUMS)?;
    Ok(())
}
