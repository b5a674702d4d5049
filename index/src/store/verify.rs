//! Looking at everything in a store.

use redb::{ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

use super::{IDS, ITEMS, Store, guarded};
use crate::IndexError;

/// Problems that a report names one by one; more are only counted.
const NAMED: usize = 20;

/// What a look at every row of a store has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Rows looked at.
    pub rows: usize,
    /// How many problems there are.
    pub problems: usize,
    /// The first of them, in words.
    pub named: Vec<String>,
}

impl VerifyReport {
    fn problem(&mut self, text: String) {
        self.problems += 1;
        if self.named.len() < NAMED {
            self.named.push(text);
        }
    }
}

impl Store {
    /// Reads every row with its checksum, and checks that ids and rows belong to each other.
    pub(crate) fn verify(&self) -> Result<VerifyReport, IndexError> {
        guarded(&self.path, || {
            let read = self.begin_read()?;
            let items = self.run(|| Ok(read.open_table(ITEMS)?))?;
            let ids = self.run(|| Ok(read.open_table(IDS)?))?;
            let mut report = VerifyReport::default();
            for entry in self.run(|| Ok(items.iter()?))? {
                let (row, item) = entry.map_err(|error| self.failed(error))?;
                let (row, id) = (row.value(), item.value().0);
                report.rows += 1;
                let named = self.run(|| Ok(ids.get(id)?.map(|named| named.value())))?;
                if named != Some(row) {
                    report.problem(format!("row {row} is item {id:?}, whose row is {named:?}"));
                }
                match self.item(&read, row) {
                    Ok(item) if item.vector.iter().all(|value| value.is_finite()) => {}
                    Ok(_) => report.problem(format!("the vector of row {row} is not finite")),
                    Err(IndexError::Damaged { detail, .. }) => report.problem(detail),
                    Err(other) => return Err(other),
                }
            }
            let names = self.run(|| Ok(ids.len()?))? as usize;
            if names != report.rows {
                report.problem(format!("there are {names} ids for {} rows", report.rows));
            }
            Ok(report)
        })
    }
}
