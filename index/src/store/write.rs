//! Writing: many requests in one durable transaction.

use redb::{Database, ReadableTable, Table};
use serde_json::{Map, Value};

use super::{
    Handle, IDS, ITEMS, Store, VECTORS,
    format::{COUNTERS, NEXT_ROW},
    sums::{SUMS, SumsTable, row_sum},
};
use crate::{IndexError, Item, Patch};

/// One request to write.
pub(crate) enum Write {
    /// Add items, replacing those with the same ids.
    Upsert(Vec<Item>),
    /// Change the metadata of items.
    Patch(Vec<Patch>),
    /// Remove the items with these ids.
    Delete(Vec<String>),
    /// Remove all items of these products. The writer turns it into a [`Write::Delete`].
    DeleteProducts(Vec<String>),
    /// Nothing: a place in the queue to wait for.
    Barrier,
}

/// What a request did to the rows, in order.
pub(crate) enum Change<'a> {
    /// A row was added. Row numbers ascend.
    Added { row: u64, item: &'a Item },
    /// The metadata of a row was changed.
    Patched { row: u64, old: Map<String, Value>, new: Map<String, Value> },
    /// A row was removed.
    Removed { row: u64 },
}

struct Tables<'t> {
    ids: Table<'t, &'static str, u64>,
    items: Table<'t, u64, (&'static str, &'static str, &'static [u8])>,
    vectors: Table<'t, u64, &'static [u8]>,
    sums: SumsTable<'t>,
    next_row: u64,
}

impl Store {
    /// Carries out all requests in one transaction. When this returns they are durable, all of them or (on an error) none.
    /// Returns the changes of each request.
    pub(crate) fn write<'a>(&self, requests: &'a [Write]) -> Result<Vec<Vec<Change<'a>>>, IndexError> {
        let Handle::Writing(db) = &self.db else { return Err(IndexError::Closed) };
        transact(db, requests).map_err(|error| self.failed(error))
    }
}

fn transact<'a>(db: &Database, requests: &'a [Write]) -> Result<Vec<Vec<Change<'a>>>, redb::Error> {
    let transaction = db.begin_write()?;
    let mut changes = Vec::with_capacity(requests.len());
    {
        let mut counters = transaction.open_table(COUNTERS)?;
        let next_row = counters.get(NEXT_ROW)?.map_or(0, |row| row.value());
        let mut tables = Tables {
            ids: transaction.open_table(IDS)?,
            items: transaction.open_table(ITEMS)?,
            vectors: transaction.open_table(VECTORS)?,
            sums: transaction.open_table(SUMS)?,
            next_row,
        };
        for request in requests {
            changes.push(tables.carry_out(request)?);
        }
        counters.insert(NEXT_ROW, tables.next_row)?;
    }
    transaction.commit()?;
    Ok(changes)
}

impl Tables<'_> {
    fn carry_out<'a>(&mut self, request: &'a Write) -> Result<Vec<Change<'a>>, redb::Error> {
        let mut changes = Vec::new();
        match request {
            Write::Upsert(items) => {
                let mut bytes = Vec::new();
                for item in items {
                    changes.extend(self.remove(&item.id)?);
                    changes.push(self.add(item, &mut bytes)?);
                }
            }
            Write::Patch(patches) => {
                for patch in patches {
                    changes.extend(self.patch(patch)?);
                }
            }
            Write::Delete(ids) => {
                for id in ids {
                    changes.extend(self.remove(id)?);
                }
            }
            Write::DeleteProducts(_) | Write::Barrier => {}
        }
        Ok(changes)
    }

    fn add<'a>(&mut self, item: &'a Item, bytes: &mut Vec<u8>) -> Result<Change<'a>, redb::Error> {
        let row = self.next_row;
        self.next_row += 1;
        bytes.clear();
        bytes.extend(item.vector.iter().flat_map(|value| value.to_le_bytes()));
        let metadata = json(&item.metadata)?;
        self.ids.insert(item.id.as_str(), row)?;
        self.items.insert(row, (item.id.as_str(), item.product_id.as_str(), metadata.as_slice()))?;
        self.vectors.insert(row, bytes.as_slice())?;
        self.sums.insert(row, row_sum(row, &item.id, &item.product_id, &metadata, bytes))?;
        Ok(Change::Added { row, item })
    }

    fn patch<'a>(&mut self, patch: &Patch) -> Result<Option<Change<'a>>, redb::Error> {
        let Some(row) = self.ids.get(patch.id.as_str())?.map(|row| row.value()) else { return Ok(None) };
        let incomplete = || redb::Error::Corrupted(format!("row {row} is incomplete"));
        let (product_id, old) = {
            let item = self.items.get(row)?.ok_or_else(incomplete)?;
            let (_, product_id, metadata) = item.value();
            let old: Map<String, Value> = serde_json::from_slice(metadata)
                .map_err(|error| redb::Error::Corrupted(format!("metadata of row {row}: {error}")))?;
            (product_id.to_owned(), old)
        };
        let mut new = old.clone();
        patch.apply(&mut new);
        let metadata = json(&new)?;
        let sum = {
            let vector = self.vectors.get(row)?.ok_or_else(incomplete)?;
            row_sum(row, &patch.id, &product_id, &metadata, vector.value())
        };
        self.items.insert(row, (patch.id.as_str(), product_id.as_str(), metadata.as_slice()))?;
        self.sums.insert(row, sum)?;
        Ok(Some(Change::Patched { row, old, new }))
    }

    fn remove<'a>(&mut self, id: &str) -> Result<Option<Change<'a>>, redb::Error> {
        let Some(row) = self.ids.remove(id)?.map(|row| row.value()) else { return Ok(None) };
        self.items.remove(row)?;
        self.vectors.remove(row)?;
        self.sums.remove(row)?;
        Ok(Some(Change::Removed { row }))
    }
}

fn json(metadata: &Map<String, Value>) -> Result<Vec<u8>, redb::Error> {
    // A map of JSON values always serialises: its keys are strings and its numbers are finite.
    serde_json::to_vec(metadata).map_err(|error| redb::Error::Io(error.into()))
}
