//! Out of a damaged store, every row that can be read and proves whole by its checksum.

use std::{
    fs::{self, OpenOptions as FileOptions},
    path::Path,
};

use redb::{ReadOnlyDatabase, ReadableDatabase};
use serde::{Deserialize, Serialize};

use super::{
    CACHE_BYTES, FILE, Handle, ITEMS, Store, StoreFacts, VECTORS, guarded, io_error, open_for_reading,
    partial, storage_error,
    sums::{SUMS, row_sum},
};
use crate::{IndexError, Item, OpenOptions, store::Write};

/// Items written at a time.
const BATCH: usize = 4096;
/// A file that was cut off is given back its length by doubling it so many times at most.
const DOUBLINGS: u32 = 6;

/// What could be saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalvageReport {
    /// Items that are whole, and in the new store.
    pub recovered: usize,
    /// Rows of which something was found that is not whole.
    pub broken: usize,
    /// Items that the damaged store says it had, if that can still be read.
    pub expected: Option<usize>,
}

impl Store {
    /// Copies what is whole in the store of `damaged` into a new store in `target`, which gets its name when that is done.
    pub(crate) fn salvage(damaged: &Path, target: &Path) -> Result<SalvageReport, IndexError> {
        let (from, to) = (damaged.join(FILE), target.join(FILE));
        if !from.try_exists().map_err(io_error(&from))? {
            return Err(IndexError::NotFound { path: damaged.to_owned() });
        }
        if to.try_exists().map_err(io_error(&to))? {
            return Err(IndexError::Exists { path: to });
        }
        // What is read is a copy: the damaged file itself is never written to.
        let copy = partial::begin(target)?;
        fs::copy(&from, &copy).map_err(io_error(&copy))?;
        let saved = partial::begin(target)?;
        let report = salvage_copy(&from, &copy, &saved)?;
        partial::publish(saved, target)?;
        Ok(report)
    }
}

fn salvage_copy(from: &Path, copy: &Path, target: &Path) -> Result<SalvageReport, IndexError> {
    let mut source = Source::open_longer(copy).map_err(|error| IndexError::Damaged {
        path: from.to_owned(),
        detail: format!("nothing could be recovered: {error}"),
    })?;
    let facts = source.facts.clone();
    let store = Store::make(target, &OpenOptions::new(facts.dim, facts.model_fingerprint))?;
    let (end, broken) = source.end();
    let mut report = SalvageReport { recovered: 0, broken, expected: source.expected };
    let mut items = Vec::new();
    for row in 0..end {
        match source.row(row) {
            Row::Whole(item) => items.push(item),
            Row::Broken => report.broken += 1,
            Row::Absent => {}
        }
        if items.len() >= BATCH {
            report.recovered += items.len();
            store.write(&[Write::Upsert(std::mem::take(&mut items))])?;
        }
    }
    report.recovered += items.len();
    store.write(&[Write::Upsert(items)])?;
    Ok(report)
}

enum Row {
    Whole(Item),
    Broken,
    Absent,
}

/// A damaged file, opened without a check of the whole.
struct Source<'a> {
    path: &'a Path,
    /// `None` after the storage engine has panicked and could not be opened again.
    db: Option<ReadOnlyDatabase>,
    facts: StoreFacts,
    next_row: u64,
    expected: Option<usize>,
}

impl<'a> Source<'a> {
    /// Opens a file; one that is too short is given zeros for what it has lost.
    fn open_longer(path: &'a Path) -> Result<Self, IndexError> {
        let first = match Self::open(path) {
            Ok(source) => return Ok(source),
            Err(error) => error,
        };
        let file = FileOptions::new().write(true).open(path).map_err(io_error(path))?;
        let mut length = file.metadata().map_err(io_error(path))?.len().max(1 << 16);
        for _ in 0..DOUBLINGS {
            length = length.saturating_mul(2);
            file.set_len(length).map_err(io_error(path))?;
            if let Ok(source) = Self::open(path) {
                return Ok(source);
            }
        }
        Err(first)
    }

    fn open(path: &'a Path) -> Result<Self, IndexError> {
        let db = Handle::Reading(open_for_reading(path)?);
        let store = Store::new(db, path.to_owned(), 0, CACHE_BYTES);
        let facts = guarded(path, || store.facts())?;
        let facts = facts.ok_or_else(|| store.says_nothing())?;
        let next_row = guarded(path, || store.counter())?;
        let expected = guarded(path, || store.len()).ok();
        let Handle::Reading(db) = store.db.into_inner() else { return Err(IndexError::Closed) };
        Ok(Self { path, db: Some(db), facts, next_row, expected })
    }

    /// One past the last row that is whole, and how many there are beyond it that are not. The counter of rows may be damaged as
    /// anything else may, and then counts to nearly for ever or not far enough; the checksum of a row covers its number.
    fn end(&mut self) -> (u64, usize) {
        let (mut below, mut broken) = (u64::MAX, 0);
        loop {
            match self.read(|db| last_row(db, below)) {
                Ok(Some(row)) if row < below => {
                    if matches!(self.row(row), Row::Whole(_)) {
                        return (row + 1, broken);
                    }
                    (below, broken) = (row, broken + 1);
                }
                Ok(None) => return (0, broken),
                // The end of the rows cannot be read: the counter is all there is.
                Ok(Some(_)) | Err(_) => return (self.next_row.min(below), broken),
            }
        }
    }

    /// A row, if its parts are there and its checksum holds. In format 1, which has no checksums, if it can be decoded.
    fn row(&mut self, row: u64) -> Row {
        let (dim, has_sums) = (self.facts.dim, self.facts.format >= 2);
        self.read(|db| read_row(db, row, dim, has_sums)).unwrap_or(Row::Broken)
    }

    /// Reads something. If the storage engine panics on it, the next reading gets a fresh handle: the locks of the one that panicked
    /// may be held for ever.
    fn read<T>(
        &mut self,
        read: impl FnOnce(&ReadOnlyDatabase) -> Result<T, redb::Error>,
    ) -> Result<T, IndexError> {
        let Some(db) = &self.db else { return Err(IndexError::Closed) };
        let mut panicked = true;
        let found = guarded(self.path, || {
            let found = read(db).map_err(storage_error(self.path));
            panicked = false;
            found
        });
        if panicked {
            self.db = None;
            self.db = open_for_reading(self.path).ok();
        }
        found
    }
}

/// The last row below this one of which there is an item, whole or not.
fn last_row(db: &ReadOnlyDatabase, below: u64) -> Result<Option<u64>, redb::Error> {
    let read = db.begin_read()?;
    let last = read.open_table(ITEMS)?.range(..below)?.next_back().transpose()?;
    Ok(last.map(|(row, _)| row.value()))
}

fn read_row(db: &ReadOnlyDatabase, row: u64, dim: usize, has_sums: bool) -> Result<Row, redb::Error> {
    let read = db.begin_read()?;
    let item = read.open_table(ITEMS)?.get(row)?;
    let vector = read.open_table(VECTORS)?.get(row)?;
    let sum = if has_sums { read.open_table(SUMS)?.get(row)? } else { None };
    let (Some(item), Some(vector)) = (&item, &vector) else {
        return Ok(if item.is_none() && vector.is_none() { Row::Absent } else { Row::Broken });
    };
    let ((id, product_id, json), bytes) = (item.value(), vector.value());
    let expected = row_sum(row, id, product_id, json, bytes);
    let whole = bytes.len() == dim * 4 && (!has_sums || sum.is_some_and(|sum| sum.value() == expected));
    Ok(match serde_json::from_slice(json) {
        Ok(metadata) if whole => Row::Whole(Item {
            id: id.to_owned(),
            product_id: product_id.to_owned(),
            vector: bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            metadata,
        }),
        _ => Row::Broken,
    })
}
