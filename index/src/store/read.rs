//! Reading rows.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use serde_json::{Map, Value};

use super::{
    Handle, IDS, ITEMS, Store, VECTORS,
    format::{COUNTERS, NEXT_ROW},
    guarded,
    sums::{SUMS, row_sum},
};
use crate::{IndexError, Item};

/// A row without its vector.
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) product_id: String,
    pub(crate) metadata: Map<String, Value>,
}

impl Store {
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, IndexError> {
        let view = match &*self.db.read() {
            Handle::Writing(db) => db.begin_read(),
            Handle::Reading(db) => db.begin_read(),
            Handle::Closed => return Err(self.check().err().unwrap_or(IndexError::Closed)),
        };
        view.map_err(|error| self.failed(error))
    }

    /// The item with this id.
    pub(crate) fn get(&self, id: &str) -> Result<Option<Item>, IndexError> {
        Ok(self.find(id)?.map(|(_, item)| item))
    }

    /// The item with this id and its row, of one moment.
    pub(crate) fn find(&self, id: &str) -> Result<Option<(u64, Item)>, IndexError> {
        let read = self.begin_read()?;
        let row = self.run(|| Ok(read.open_table(IDS)?.get(id)?.map(|row| row.value())))?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some((row, self.item(&read, row)?)))
    }

    /// Whether there is an item with this id.
    pub(super) fn contains(&self, id: &str) -> Result<bool, IndexError> {
        let read = self.begin_read()?;
        self.run(|| Ok(read.open_table(IDS)?.get(id)?.is_some()))
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> Result<usize, IndexError> {
        let read = self.begin_read()?;
        self.run(|| Ok(read.open_table(ITEMS)?.len()? as usize))
    }

    /// How many entries each table says that it has. Nobody but who counts them knows whether that is so: a file that is opened for
    /// reading is not checked as a whole.
    pub(super) fn lengths(&self, read: &ReadTransaction) -> Result<[(&'static str, u64); 4], IndexError> {
        self.run(|| {
            Ok([
                ("ids", read.open_table(IDS)?.len()?),
                ("items", read.open_table(ITEMS)?.len()?),
                ("vectors", read.open_table(VECTORS)?.len()?),
                ("checksums", read.open_table(SUMS)?.len()?),
            ])
        })
    }

    /// The number that the next row gets.
    pub(super) fn counter(&self) -> Result<u64, IndexError> {
        let read = self.begin_read()?;
        self.run(|| Ok(read.open_table(COUNTERS)?.get(NEXT_ROW)?.map_or(0, |row| row.value())))
    }

    /// Items in order of their ids, after `after`.
    pub(crate) fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, IndexError> {
        let read = self.begin_read()?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows: Vec<u64> = self.run(|| {
            let ids = read.open_table(IDS)?;
            let range = ids.range::<&str>((start, Bound::Unbounded))?;
            range.take(limit).map(|entry| Ok(entry?.1.value())).collect()
        })?;
        rows.into_iter().map(|row| self.item(&read, row)).collect()
    }

    /// The records of these rows, in one consistent view; `None` where a row is no longer there.
    pub(crate) fn records(&self, rows: &[u64]) -> Result<Vec<Option<Record>>, IndexError> {
        let read = self.begin_read()?;
        let items = read.open_table(ITEMS).map_err(|error| self.failed(error))?;
        rows.iter()
            .map(|&row| match items.get(row).map_err(|error| self.failed(error))? {
                Some(entry) => self.record(row, entry.value()).map(Some),
                None => Ok(None),
            })
            .collect()
    }

    /// The items of these rows that are still there, in one consistent view.
    pub(crate) fn items(&self, rows: &[u64]) -> Result<Vec<Item>, IndexError> {
        let read = self.begin_read()?;
        let mut found = Vec::with_capacity(rows.len());
        for &row in rows {
            if self.run(|| Ok(read.open_table(ITEMS)?.get(row)?.is_some()))? {
                found.push(self.item(&read, row)?);
            }
        }
        Ok(found)
    }

    /// Visits the metadata of every row, by ascending row number.
    pub(crate) fn for_each_metadata(
        &self,
        mut visit: impl FnMut(u64, &Map<String, Value>),
    ) -> Result<(), IndexError> {
        let read = self.begin_read()?;
        let items = read.open_table(ITEMS).map_err(|error| self.failed(error))?;
        for entry in items.iter().map_err(|error| self.failed(error))? {
            let (row, item) = entry.map_err(|error| self.failed(error))?;
            visit(row.value(), &self.metadata(row.value(), item.value().2)?);
        }
        Ok(())
    }

    /// Visits product id and vector of every row, by ascending row number, after checking its checksum.
    pub(crate) fn for_each_row(&self, mut visit: impl FnMut(u64, &str, &[f32])) -> Result<(), IndexError> {
        guarded(&self.path, || {
            let read = self.begin_read()?;
            let items = read.open_table(ITEMS).map_err(|error| self.failed(error))?;
            let vectors = read.open_table(VECTORS).map_err(|error| self.failed(error))?;
            let sums = read.open_table(SUMS).map_err(|error| self.failed(error))?;
            let mut items = items.iter().map_err(|error| self.failed(error))?;
            let mut vectors = vectors.iter().map_err(|error| self.failed(error))?;
            let mut sums = sums.iter().map_err(|error| self.failed(error))?;
            let mut vector = vec![0f32; self.dim];
            loop {
                let item = items.next().transpose().map_err(|error| self.failed(error))?;
                let bytes = vectors.next().transpose().map_err(|error| self.failed(error))?;
                let sum = sums.next().transpose().map_err(|error| self.failed(error))?;
                let row = match (&item, &bytes, &sum) {
                    (None, None, None) => return Ok(()),
                    (Some((a, _)), Some((b, _)), Some((c, _)))
                        if a.value() == b.value() && b.value() == c.value() =>
                    {
                        a.value()
                    }
                    _ => {
                        let rows = [
                            item.map(|(row, _)| row.value()),
                            bytes.map(|(row, _)| row.value()),
                            sum.map(|(row, _)| row.value()),
                        ];
                        let first = rows.into_iter().flatten().min().unwrap_or_default();
                        return Err(self.damaged(format!("row {first} is incomplete")));
                    }
                };
                if let (Some((_, item)), Some((_, bytes)), Some((_, sum))) = (item, bytes, sum) {
                    self.check_sum(row, item.value(), bytes.value(), sum.value())?;
                    self.decode_into(row, bytes.value(), &mut vector)?;
                    visit(row, item.value().1, &vector);
                }
            }
        })
    }

    pub(super) fn item(&self, read: &ReadTransaction, row: u64) -> Result<Item, IndexError> {
        let (item, bytes, sum) = self.run(|| {
            let item = read.open_table(ITEMS)?.get(row)?;
            let vector = read.open_table(VECTORS)?.get(row)?;
            let sum = read.open_table(SUMS)?.get(row)?;
            Ok((item, vector, sum))
        })?;
        let (Some(item), Some(bytes), Some(sum)) = (item, bytes, sum) else {
            return Err(self.damaged(format!("row {row} is incomplete")));
        };
        self.check_sum(row, item.value(), bytes.value(), sum.value())?;
        let Record { id, product_id, metadata } = self.record(row, item.value())?;
        let mut vector = vec![0f32; self.dim];
        self.decode_into(row, bytes.value(), &mut vector)?;
        Ok(Item { id, product_id, vector, metadata })
    }

    fn check_sum(
        &self,
        row: u64,
        (id, product_id, metadata): (&str, &str, &[u8]),
        vector: &[u8],
        sum: u32,
    ) -> Result<(), IndexError> {
        if row_sum(row, id, product_id, metadata, vector) == sum {
            return Ok(());
        }
        Err(self.damaged(format!("row {row} fails its checksum")))
    }

    fn record(
        &self,
        row: u64,
        (id, product_id, metadata): (&str, &str, &[u8]),
    ) -> Result<Record, IndexError> {
        let metadata = self.metadata(row, metadata)?;
        Ok(Record { id: id.to_owned(), product_id: product_id.to_owned(), metadata })
    }

    fn metadata(&self, row: u64, json: &[u8]) -> Result<Map<String, Value>, IndexError> {
        serde_json::from_slice(json).map_err(|error| self.damaged(format!("metadata of row {row}: {error}")))
    }

    fn decode_into(&self, row: u64, bytes: &[u8], vector: &mut [f32]) -> Result<(), IndexError> {
        if bytes.len() != size_of_val(vector) {
            return Err(self.damaged(format!("the vector of row {row} has {} bytes", bytes.len())));
        }
        for (value, word) in vector.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*word);
        }
        Ok(())
    }

    pub(super) fn run<T>(&self, read: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, IndexError> {
        read().map_err(|error| self.failed(error))
    }
}
