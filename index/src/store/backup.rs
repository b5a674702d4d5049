//! A consistent copy of a store while it is in use.

use std::{fs, path::Path};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::{
    FILE, IDS, ITEMS, Store, VECTORS, create_database,
    format::{COUNTERS, FORMAT, NEXT_ROW, StoreFacts, stamp},
    fresh_partial, io_error, storage_error,
    sums::{SUMS, row_sum},
    sync_folder,
};
use crate::IndexError;

/// Rows in one transaction of the copy. Its pages are held in memory until the commit.
const ROWS_AT_ONCE: usize = 20_000;

impl Store {
    /// Copies what is committed now into a new store in `folder`. Writing goes on meanwhile. Returns the number of items.
    pub(crate) fn backup(&self, folder: &Path) -> Result<usize, IndexError> {
        let target = folder.join(FILE);
        if target.try_exists().map_err(io_error(&target))? {
            return Err(IndexError::Exists { path: target });
        }
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        let partial = fresh_partial(folder)?;
        let read = self.begin_read()?;
        let facts = self.facts_in(&read)?.ok_or_else(|| self.says_nothing())?;
        let items = self.copy(&read, &StoreFacts { format: FORMAT, ..facts }, &partial)?;
        fs::rename(&partial, &target).map_err(io_error(&target))?;
        sync_folder(folder)?;
        Ok(items)
    }

    /// Every row of a view into a new file, checked on the way. The last commit is durable when this returns.
    fn copy(&self, read: &ReadTransaction, facts: &StoreFacts, target: &Path) -> Result<usize, IndexError> {
        let source = |error: redb::Error| self.failed(error);
        let items = read.open_table(ITEMS).map_err(|error| source(error.into()))?;
        let vectors = read.open_table(VECTORS).map_err(|error| source(error.into()))?;
        let sums = read.open_table(SUMS).map_err(|error| source(error.into()))?;
        let count = items.len().map_err(|error| source(error.into()))? as usize;
        let next_row = read
            .open_table(COUNTERS)
            .map_err(|error| source(error.into()))?
            .get(NEXT_ROW)
            .map_err(|error| source(error.into()))?
            .map_or(0, |row| row.value());
        let copy = create_database(target)?;
        let failed = |error: redb::Error| storage_error(target)(error);
        let mut rows = items.iter().map_err(|error| source(error.into()))?;
        let (mut copied, mut first) = (0, true);
        while copied < count || first {
            let transaction = copy.begin_write().map_err(|error| failed(error.into()))?;
            if std::mem::take(&mut first) {
                stamp(&transaction, facts, next_row).map_err(failed)?;
            }
            {
                let open = |error: redb::TableError| failed(error.into());
                let mut to_ids = transaction.open_table(IDS).map_err(open)?;
                let mut to_items = transaction.open_table(ITEMS).map_err(open)?;
                let mut to_vectors = transaction.open_table(VECTORS).map_err(open)?;
                let mut to_sums = transaction.open_table(SUMS).map_err(open)?;
                for entry in rows.by_ref().take(ROWS_AT_ONCE) {
                    let (row, item) = entry.map_err(|error| source(error.into()))?;
                    let row = row.value();
                    let (id, product_id, metadata) = item.value();
                    let vector = vectors.get(row).map_err(|error| source(error.into()))?;
                    let sum = sums.get(row).map_err(|error| source(error.into()))?;
                    let (Some(vector), Some(sum)) = (vector, sum) else {
                        return Err(self.damaged(format!("row {row} is incomplete")));
                    };
                    let (vector, sum) = (vector.value(), sum.value());
                    if row_sum(row, id, product_id, metadata, vector) != sum {
                        return Err(self.damaged(format!("row {row} fails its checksum")));
                    }
                    let insert = |error: redb::StorageError| failed(error.into());
                    to_ids.insert(id, row).map_err(insert)?;
                    to_items.insert(row, (id, product_id, metadata)).map_err(insert)?;
                    to_vectors.insert(row, vector).map_err(insert)?;
                    to_sums.insert(row, sum).map_err(insert)?;
                    copied += 1;
                }
            }
            transaction.commit().map_err(|error| failed(error.into()))?;
        }
        Ok(count)
    }
}
