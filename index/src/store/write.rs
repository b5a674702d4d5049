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
    /// Change the metadata of items; each patch is a part of its own.
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

/// What became of a part of a request: its changes, or why it was refused and has changed nothing.
pub(crate) type Part<'a> = Result<Vec<Change<'a>>, IndexError>;

/// An item as a patch finds it.
struct Known {
    row: u64,
    product_id: String,
    metadata: Map<String, Value>,
}

struct Tables<'t> {
    ids: Table<'t, &'static str, u64>,
    items: Table<'t, u64, (&'static str, &'static str, &'static [u8])>,
    vectors: Table<'t, u64, &'static [u8]>,
    sums: SumsTable<'t>,
    next_row: u64,
}

impl Store {
    /// Carries out all requests in one transaction. When this returns they are durable, all of them or (on an error) none; a part that
    /// was refused is no error. Returns what became of the parts of each request.
    pub(crate) fn write<'a>(&self, requests: &'a [Write]) -> Result<Vec<Vec<Part<'a>>>, IndexError> {
        let handle = self.db.read();
        let Handle::Writing(db) = &*handle else { return Err(IndexError::Closed) };
        transact(db, requests).map_err(|error| self.failed(error))
    }
}

fn transact<'a>(db: &Database, requests: &'a [Write]) -> Result<Vec<Vec<Part<'a>>>, redb::Error> {
    let transaction = db.begin_write()?;
    let mut parts = Vec::with_capacity(requests.len());
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
            parts.push(tables.carry_out(request)?);
        }
        counters.insert(NEXT_ROW, tables.next_row)?;
    }
    transaction.commit()?;
    Ok(parts)
}

impl Tables<'_> {
    fn carry_out<'a>(&mut self, request: &'a Write) -> Result<Vec<Part<'a>>, redb::Error> {
        let mut changes = Vec::new();
        match request {
            Write::Upsert(items) => {
                let mut bytes = Vec::new();
                for item in items {
                    changes.extend(self.remove(&item.id)?);
                    changes.push(self.add(item, &mut bytes)?);
                }
            }
            Write::Patch(patches) => return patches.iter().map(|patch| self.patch(patch)).collect(),
            Write::Delete(ids) => {
                for id in ids {
                    changes.extend(self.remove(id)?);
                }
            }
            Write::DeleteProducts(_) | Write::Barrier => {}
        }
        Ok(vec![Ok(changes)])
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

    /// Merges a patch into all of its items before any of them is written, so that one that cannot take it leaves the others as they are.
    fn patch<'a>(&mut self, patch: &Patch) -> Result<Part<'a>, redb::Error> {
        let mut merged = Vec::new();
        for id in &patch.ids {
            let Some(known) = self.known(id)? else { continue };
            match patch.merged(id, &known.metadata) {
                Ok(new) => merged.push((id, known, new)),
                Err(refused) => return Ok(Err(refused)),
            }
        }
        let mut changes = Vec::with_capacity(merged.len());
        for (id, known, new) in merged {
            changes.push(self.replace_metadata(id, known, new)?);
        }
        Ok(Ok(changes))
    }

    fn known(&self, id: &str) -> Result<Option<Known>, redb::Error> {
        let Some(row) = self.ids.get(id)?.map(|row| row.value()) else { return Ok(None) };
        let item = self.items.get(row)?.ok_or_else(|| incomplete(row))?;
        let (_, product_id, json) = item.value();
        let metadata: Map<String, Value> = serde_json::from_slice(json)
            .map_err(|error| redb::Error::Corrupted(format!("metadata of row {row}: {error}")))?;
        Ok(Some(Known { row, product_id: product_id.to_owned(), metadata }))
    }

    fn replace_metadata<'a>(
        &mut self,
        id: &str,
        known: Known,
        new: Map<String, Value>,
    ) -> Result<Change<'a>, redb::Error> {
        let Known { row, product_id, metadata: old } = known;
        let metadata = json(&new)?;
        let sum = {
            let vector = self.vectors.get(row)?.ok_or_else(|| incomplete(row))?;
            row_sum(row, id, &product_id, &metadata, vector.value())
        };
        self.items.insert(row, (id, product_id.as_str(), metadata.as_slice()))?;
        self.sums.insert(row, sum)?;
        Ok(Change::Patched { row, old, new })
    }

    fn remove<'a>(&mut self, id: &str) -> Result<Option<Change<'a>>, redb::Error> {
        let Some(row) = self.ids.remove(id)?.map(|row| row.value()) else { return Ok(None) };
        self.items.remove(row)?;
        self.vectors.remove(row)?;
        self.sums.remove(row)?;
        Ok(Some(Change::Removed { row }))
    }
}

fn incomplete(row: u64) -> redb::Error {
    redb::Error::Corrupted(format!("row {row} is incomplete"))
}

fn json(metadata: &Map<String, Value>) -> Result<Vec<u8>, redb::Error> {
    // A map of JSON values always serialises: its keys are strings and its numbers are finite.
    serde_json::to_vec(metadata).map_err(|error| redb::Error::Io(error.into()))
}
