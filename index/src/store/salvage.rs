//! Out of a damaged store, every row that can be read and proves whole by its checksum.

use std::{fs, path::Path};

use redb::{Database, ReadableDatabase};
use serde::{Deserialize, Serialize};

use super::{
    FILE, ITEMS, Store, StoreFacts, VECTORS, guarded, io_error, open_database, storage_error,
    sums::{SUMS, row_sum},
};
use crate::{IndexError, Item, OpenOptions, store::Write};

/// Name of the copy that is read: the damaged file itself is never written to.
const COPY: &str = "damaged.redb";
/// Items written at a time.
const BATCH: usize = 4096;

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
    /// Copies what is whole in the store of `damaged` into a new store in `target`.
    pub(crate) fn salvage(damaged: &Path, target: &Path) -> Result<SalvageReport, IndexError> {
        let (from, to) = (damaged.join(FILE), target.join(FILE));
        if !from.try_exists().map_err(io_error(&from))? {
            return Err(IndexError::NotFound { path: damaged.to_owned() });
        }
        if to.try_exists().map_err(io_error(&to))? {
            return Err(IndexError::Exists { path: to });
        }
        fs::create_dir_all(target).map_err(io_error(target))?;
        let copy = target.join(COPY);
        fs::copy(&from, &copy).map_err(io_error(&copy))?;
        let report = salvage_copy(&from, &copy, target);
        // The copy has served its purpose, whatever came of it; what matters is the report.
        let _ = fs::remove_file(&copy);
        report
    }
}

fn salvage_copy(from: &Path, copy: &Path, target: &Path) -> Result<SalvageReport, IndexError> {
    let unreadable = |error: IndexError| IndexError::Damaged {
        path: from.to_owned(),
        detail: format!("nothing could be recovered: {error}"),
    };
    let mut source = Source::open(copy).map_err(unreadable)?;
    let facts = source.facts.clone();
    let store = Store::open(
        target,
        &OpenOptions { create: true, ..OpenOptions::new(facts.dim, facts.model_fingerprint.clone()) },
    )?;
    let mut report = SalvageReport { recovered: 0, broken: 0, expected: source.expected };
    let mut items = Vec::new();
    for row in 0..source.next_row {
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
    db: Option<Database>,
    facts: StoreFacts,
    next_row: u64,
    expected: Option<usize>,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Self, IndexError> {
        let db = open_database(path, false)?;
        let store = Store { db, path: path.to_owned(), dim: 0 };
        let facts =
            guarded(path, || store.facts())?.ok_or_else(|| store.damaged("it does not say what it is"))?;
        let next_row = guarded(path, || store.counter())?;
        let expected = guarded(path, || store.len()).ok();
        Ok(Self { path, db: Some(store.db), facts, next_row, expected })
    }

    /// A row, if its parts are there and its checksum holds. In format 1, which has no checksums, if it can be decoded.
    fn row(&mut self, row: u64) -> Row {
        let Some(db) = &self.db else { return Row::Broken };
        let dim = self.facts.dim;
        let has_sums = self.facts.format >= 2;
        let mut panicked = true;
        let read = guarded(self.path, || {
            let found = read_row(db, row, dim, has_sums).map_err(storage_error(self.path));
            panicked = false;
            found
        });
        if panicked {
            // Its locks may be held for ever: a fresh handle for the next row.
            self.db = None;
            self.db = open_database(self.path, false).ok();
        }
        read.unwrap_or(Row::Broken)
    }
}

fn read_row(db: &Database, row: u64, dim: usize, has_sums: bool) -> Result<Row, redb::Error> {
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
