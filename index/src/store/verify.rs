//! Looking at everything in a store.

use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableTable, Value};
use serde::{Deserialize, Serialize};

use super::{IDS, ITEMS, Store, VECTORS, guarded, sums::SUMS};
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
    /// Reads every row with its checksum, and checks that ids and rows belong to each other and that nothing is without a row.
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
            self.check_lengths(&read, &mut report)?;
            Ok(report)
        })
    }

    /// Counts what is in each table: as much as there are rows, and as the table says itself.
    fn check_lengths(&self, read: &ReadTransaction, report: &mut VerifyReport) -> Result<(), IndexError> {
        let rows = report.rows as u64;
        let met = self.run(|| {
            let (ids, vectors) = (entries(&read.open_table(IDS)?)?, entries(&read.open_table(VECTORS)?)?);
            Ok([ids, rows, vectors, entries(&read.open_table(SUMS)?)?])
        })?;
        for ((name, said), met) in self.lengths(read)?.into_iter().zip(met) {
            if met != rows {
                report.problem(format!("there are {met} {name} for {rows} rows"));
            }
            if said != met {
                report.problem(format!("there are {met} {name}, and the store says {said}"));
            }
        }
        Ok(())
    }
}

/// Entries that are met in a table.
fn entries<K: Key + 'static, V: Value + 'static>(table: &ReadOnlyTable<K, V>) -> Result<u64, redb::Error> {
    let mut met = 0;
    for entry in table.iter()? {
        entry?;
        met += 1;
    }
    Ok(met)
}
