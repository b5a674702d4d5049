//! A consistent copy of a store while it is in use.

use std::path::Path;

use redb::{Range, ReadOnlyTable, ReadTransaction, ReadableTable, WriteTransaction};

use super::{
    FILE, IDS, ITEMS, Store, VECTORS, create_database,
    format::{COUNTERS, FORMAT, NEXT_ROW, StoreFacts, stamp},
    io_error, partial, storage_error,
    sums::{SUMS, row_sum},
};
use crate::IndexError;

/// Rows in one transaction of the copy. Its pages are held in memory until the commit.
const ROWS_AT_ONCE: usize = 20_000;

/// The rows that are still to be copied.
type Rows<'t> = Range<'t, u64, (&'static str, &'static str, &'static [u8])>;

/// What belongs to them.
struct Parts {
    vectors: ReadOnlyTable<u64, &'static [u8]>,
    sums: ReadOnlyTable<u64, u32>,
}

impl Store {
    /// Copies what is committed now into a new store in `folder`. Writing goes on meanwhile. Returns the number of items.
    pub(crate) fn backup(&self, folder: &Path) -> Result<usize, IndexError> {
        let target = folder.join(FILE);
        if target.try_exists().map_err(io_error(&target))? {
            return Err(IndexError::Exists { path: target });
        }
        let read = self.begin_read()?;
        let facts = self.facts_in(&read)?.ok_or_else(|| self.says_nothing())?;
        let partial = partial::begin(folder)?;
        let items = self.copy(&read, &StoreFacts { format: FORMAT, ..facts }, &partial)?;
        partial::publish(partial, folder)?;
        Ok(items)
    }

    /// Every row of a view into a new file, checked on the way. The last commit is durable when this returns.
    fn copy(&self, read: &ReadTransaction, facts: &StoreFacts, target: &Path) -> Result<usize, IndexError> {
        let (items, parts) = self.run(|| {
            let parts = Parts { vectors: read.open_table(VECTORS)?, sums: read.open_table(SUMS)? };
            Ok((read.open_table(ITEMS)?, parts))
        })?;
        let next_row =
            self.run(|| Ok(read.open_table(COUNTERS)?.get(NEXT_ROW)?.map_or(0, |row| row.value())))?;
        let mut rows = self.run(|| Ok(items.iter()?))?;
        let copy = create_database(target)?;
        let failed = |error: redb::Error| storage_error(target)(error);
        let mut copied = 0;
        // Until there are no more rows, whatever number of them the store says that it has.
        loop {
            let transaction = copy.begin_write().map_err(|error| failed(error.into()))?;
            if copied == 0 {
                stamp(&transaction, facts, next_row).map_err(failed)?;
            }
            let some = self.copy_some(&mut rows, &parts, &transaction, target)?;
            transaction.commit().map_err(|error| failed(error.into()))?;
            copied += some;
            if some < ROWS_AT_ONCE {
                break;
            }
        }
        self.check_count(read, copied)?;
        Ok(copied)
    }

    /// Copies the next rows. Returns how many there were, less than [`ROWS_AT_ONCE`] at the end.
    fn copy_some(
        &self,
        rows: &mut Rows<'_>,
        parts: &Parts,
        transaction: &WriteTransaction,
        target: &Path,
    ) -> Result<usize, IndexError> {
        let open = |error: redb::TableError| storage_error(target)(error);
        let insert = |error: redb::StorageError| storage_error(target)(error);
        let mut to_ids = transaction.open_table(IDS).map_err(open)?;
        let mut to_items = transaction.open_table(ITEMS).map_err(open)?;
        let mut to_vectors = transaction.open_table(VECTORS).map_err(open)?;
        let mut to_sums = transaction.open_table(SUMS).map_err(open)?;
        let mut copied = 0;
        for entry in rows.by_ref().take(ROWS_AT_ONCE) {
            let (row, item) = entry.map_err(|error| self.failed(error))?;
            let row = row.value();
            let (id, product_id, metadata) = item.value();
            let (vector, sum) = self.run(|| Ok((parts.vectors.get(row)?, parts.sums.get(row)?)))?;
            let (Some(vector), Some(sum)) = (vector, sum) else {
                return Err(self.damaged(format!("row {row} is incomplete")));
            };
            let (vector, sum) = (vector.value(), sum.value());
            if row_sum(row, id, product_id, metadata, vector) != sum {
                return Err(self.damaged(format!("row {row} fails its checksum")));
            }
            if to_ids.insert(id, row).map_err(insert)?.is_some() {
                return Err(self.damaged(format!("row {row} is not the only one of item {id:?}")));
            }
            to_items.insert(row, (id, product_id, metadata)).map_err(insert)?;
            to_vectors.insert(row, vector).map_err(insert)?;
            to_sums.insert(row, sum).map_err(insert)?;
            copied += 1;
        }
        Ok(copied)
    }

    /// Refuses a copy of fewer or more rows than the store says it has of anything: one of the two is damaged.
    fn check_count(&self, read: &ReadTransaction, copied: usize) -> Result<(), IndexError> {
        for (name, said) in self.lengths(read)? {
            if said != copied as u64 {
                return Err(
                    self.damaged(format!("it has {copied} items, and says that it has {said} {name}"))
                );
            }
        }
        Ok(())
    }
}
