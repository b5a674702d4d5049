//! Writing: many requests in one durable transaction.

use redb::{ReadableTable, Table};

use super::{
    IDS, ITEMS, Store, VECTORS,
    format::{COUNTERS, NEXT_ROW},
};
use crate::{IndexError, Item};

/// One request to write.
pub(crate) enum Write {
    /// Add items, replacing those with the same ids.
    Upsert(Vec<Item>),
    /// Remove the items with these ids.
    Delete(Vec<String>),
    /// Nothing: a place in the queue to wait for.
    Barrier,
}

/// What a request did to the rows, in order.
pub(crate) enum Change<'a> {
    /// A row was added. Row numbers ascend.
    Added { row: u64, item: &'a Item },
    /// A row was removed.
    Removed { row: u64 },
}

struct Tables<'t> {
    ids: Table<'t, &'static str, u64>,
    items: Table<'t, u64, (&'static str, &'static str, &'static [u8])>,
    vectors: Table<'t, u64, &'static [u8]>,
    next_row: u64,
}

impl Store {
    /// Carries out all requests in one transaction. When this returns they are durable, all of them or (on an error) none.
    /// Returns the changes of each request.
    pub(crate) fn write<'a>(&self, requests: &'a [Write]) -> Result<Vec<Vec<Change<'a>>>, IndexError> {
        self.transact(requests).map_err(super::storage_error(&self.path))
    }

    fn transact<'a>(&self, requests: &'a [Write]) -> Result<Vec<Vec<Change<'a>>>, redb::Error> {
        let transaction = self.db.begin_write()?;
        let mut changes = Vec::with_capacity(requests.len());
        {
            let mut counters = transaction.open_table(COUNTERS)?;
            let next_row = counters.get(NEXT_ROW)?.map_or(0, |row| row.value());
            let mut tables = Tables {
                ids: transaction.open_table(IDS)?,
                items: transaction.open_table(ITEMS)?,
                vectors: transaction.open_table(VECTORS)?,
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
            Write::Delete(ids) => {
                for id in ids {
                    changes.extend(self.remove(id)?);
                }
            }
            Write::Barrier => {}
        }
        Ok(changes)
    }

    fn add<'a>(&mut self, item: &'a Item, bytes: &mut Vec<u8>) -> Result<Change<'a>, redb::Error> {
        let row = self.next_row;
        self.next_row += 1;
        bytes.clear();
        bytes.extend(item.vector.iter().flat_map(|value| value.to_le_bytes()));
        // A map of JSON values always serialises: its keys are strings and its numbers are finite.
        let metadata = serde_json::to_vec(&item.metadata).map_err(|error| redb::Error::Io(error.into()))?;
        self.ids.insert(item.id.as_str(), row)?;
        self.items.insert(row, (item.id.as_str(), item.product_id.as_str(), metadata.as_slice()))?;
        self.vectors.insert(row, bytes.as_slice())?;
        Ok(Change::Added { row, item })
    }

    fn remove<'a>(&mut self, id: &str) -> Result<Option<Change<'a>>, redb::Error> {
        let Some(row) = self.ids.remove(id)?.map(|row| row.value()) else { return Ok(None) };
        self.items.remove(row)?;
        self.vectors.remove(row)?;
        Ok(Some(Change::Removed { row }))
    }
}
