//! Reading rows.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable};
use serde_json::{Map, Value};

use super::{IDS, ITEMS, Store, VECTORS, storage_error};
use crate::{IndexError, Item};

/// A row without its vector.
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) product_id: String,
    pub(crate) metadata: Map<String, Value>,
}

impl Store {
    fn begin_read(&self) -> Result<ReadTransaction, IndexError> {
        self.db.begin_read().map_err(storage_error(&self.path))
    }

    /// The item with this id.
    pub(crate) fn get(&self, id: &str) -> Result<Option<Item>, IndexError> {
        let read = self.begin_read()?;
        let row = self.run(|| Ok(read.open_table(IDS)?.get(id)?.map(|row| row.value())))?;
        row.map(|row| self.item(&read, row)).transpose()
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
        let items = read.open_table(ITEMS).map_err(storage_error(&self.path))?;
        rows.iter()
            .map(|&row| match items.get(row).map_err(storage_error(&self.path))? {
                Some(entry) => self.record(row, entry.value()).map(Some),
                None => Ok(None),
            })
            .collect()
    }

    /// Visits the metadata of every row, by ascending row number.
    pub(crate) fn for_each_metadata(
        &self,
        mut visit: impl FnMut(u64, &Map<String, Value>),
    ) -> Result<(), IndexError> {
        let read = self.begin_read()?;
        let items = read.open_table(ITEMS).map_err(storage_error(&self.path))?;
        for entry in items.iter().map_err(storage_error(&self.path))? {
            let (row, item) = entry.map_err(storage_error(&self.path))?;
            visit(row.value(), &self.metadata(row.value(), item.value().2)?);
        }
        Ok(())
    }

    /// Visits product id and vector of every row, by ascending row number.
    pub(crate) fn for_each_row(&self, mut visit: impl FnMut(u64, &str, &[f32])) -> Result<(), IndexError> {
        let read = self.begin_read()?;
        let items = read.open_table(ITEMS).map_err(storage_error(&self.path))?;
        let vectors = read.open_table(VECTORS).map_err(storage_error(&self.path))?;
        let mut items = items.iter().map_err(storage_error(&self.path))?;
        let mut vectors = vectors.iter().map_err(storage_error(&self.path))?;
        let mut vector = vec![0f32; self.dim];
        loop {
            let (item, bytes) = (items.next().transpose(), vectors.next().transpose());
            match (item.map_err(storage_error(&self.path))?, bytes.map_err(storage_error(&self.path))?) {
                (None, None) => return Ok(()),
                (Some((row, item)), Some((vector_row, bytes))) if row.value() == vector_row.value() => {
                    self.decode_into(row.value(), bytes.value(), &mut vector)?;
                    visit(row.value(), item.value().1, &vector);
                }
                (item, bytes) => {
                    let row =
                        item.map(|(row, _)| row.value()).into_iter().chain(bytes.map(|(row, _)| row.value()));
                    return Err(self.damaged(format!("row {} is incomplete", row.min().unwrap_or_default())));
                }
            }
        }
    }

    fn item(&self, read: &ReadTransaction, row: u64) -> Result<Item, IndexError> {
        let found = self.run(|| {
            let item = read.open_table(ITEMS)?.get(row)?;
            let vector = read.open_table(VECTORS)?.get(row)?;
            Ok(item.zip(vector))
        })?;
        let (item, bytes) = found.ok_or_else(|| self.damaged(format!("row {row} is incomplete")))?;
        let Record { id, product_id, metadata } = self.record(row, item.value())?;
        let mut vector = vec![0f32; self.dim];
        self.decode_into(row, bytes.value(), &mut vector)?;
        Ok(Item { id, product_id, vector, metadata })
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

    fn run<T>(&self, read: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, IndexError> {
        read().map_err(storage_error(&self.path))
    }
}
