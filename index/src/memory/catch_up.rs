//! Following the store after a commit of which nobody knows whether it was carried out.
//!
//! What memory has not heard of is taken in as if it were written now: slots, graph and a compaction under way stay as they are.

use std::collections::BTreeSet;

use super::{Bits, Columns, Memory, columns::Built};
use crate::{IndexError, store::Store};

/// What is in the store and not in memory, and the other way round.
#[derive(Default)]
pub(crate) struct Missed {
    added: Vec<(u64, String, Vec<f32>)>,
    removed: Vec<u64>,
}

impl Memory {
    /// Compares every row with the store. Nobody may write to the store meanwhile, nor until [`Memory::take_in`].
    pub(crate) fn missed(&self, store: &Store) -> Result<Missed, IndexError> {
        // Slots are counted in u32.
        let slots = self.rows.len() as u32;
        let newest = slots.checked_sub(1).map(|slot| self.rows.row_number(slot));
        let (mut missed, mut seen, mut foreign) = (Missed::default(), Bits::default(), None);
        store.for_each_row(|row, product_id, vector| match self.rows.slot_of(row) {
            Some(slot) if self.holds(slot, product_id, vector) => seen.insert(slot),
            None if newest.is_none_or(|newest| row > newest) => {
                missed.added.push((row, product_id.to_owned(), vector.to_vec()));
            }
            _ => foreign = foreign.or(Some(row)),
        })?;
        if let Some(row) = foreign {
            let detail =
                format!("it is another one now: row {row} is not what it was; start the program anew");
            return Err(IndexError::Damaged { path: store.path().to_owned(), detail });
        }
        let gone = (0..slots).filter(|&slot| self.live.contains(slot) && !seen.contains(slot));
        missed.removed = gone.map(|slot| self.rows.row_number(slot)).collect();
        Ok(missed)
    }

    /// Whether a slot is live and has just this row.
    fn holds(&self, slot: u32, product_id: &str, vector: &[f32]) -> bool {
        self.live.contains(slot)
            && self.products.id_of(slot) == product_id
            && self.rows.vector(slot) == vector
    }

    /// Follows the store, but for the columns.
    pub(crate) fn take_in(&mut self, missed: Missed) {
        for row in missed.removed {
            self.remove(row);
        }
        for (row, product_id, vector) in missed.added {
            self.add(row, &product_id, &vector);
        }
    }

    /// Fields that have a column.
    pub(crate) fn column_fields(&self) -> BTreeSet<String> {
        self.columns.fields()
    }

    /// Takes columns made by [`Memory::build_columns`] in the place of those there are: metadata may have changed in any row.
    pub(crate) fn replace_columns(&mut self, built: Built) {
        self.columns = Columns::default();
        self.columns.insert(built);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::{Filter, Item, OpenOptions, Patch, SearchRequest, memory::Question, store::Write};

    fn open(folder: &TempDir) -> Store {
        let options = OpenOptions { create: true, ..OpenOptions::new(2, "model") };
        Store::open(folder.path(), &options).expect("opens")
    }

    fn item(id: &str, product: &str, vector: [f32; 2], size: u32) -> Item {
        let metadata = json!({ "size": size }).as_object().cloned().expect("an object");
        Item { id: id.into(), product_id: product.into(), vector: vector.to_vec(), metadata }
    }

    fn write(store: &Store, writes: &[Write]) {
        store.write(writes).expect("writes");
    }

    fn columns(memory: &mut Memory, store: &Store, fields: BTreeSet<String>) {
        let built = memory.build_columns(store, fields).expect("builds");
        memory.replace_columns(built);
    }

    /// Rows, best first, of all items of this size.
    fn rows_of_size(memory: &Memory, size: u32) -> Vec<u64> {
        let number = f64::from(size);
        let filter = Some(Filter::range("size", number, number));
        let question = Question {
            query: vec![1.0, 0.0],
            request: SearchRequest { filter, ..SearchRequest::new(vec![1.0, 0.0]) },
            excluded_rows: Vec::new(),
            excluded_products: Vec::new(),
        };
        memory.row_numbers(&memory.search(&question, 10))
    }

    #[test]
    fn memory_follows_what_the_store_did_alone() {
        let folder = TempDir::new().expect("a folder");
        let store = open(&folder);
        let first = vec![
            item("a", "p", [1.0, 0.0], 1),
            item("b", "p", [0.8, 0.6], 1),
            item("c", "q", [0.0, 1.0], 1),
            item("d", "q", [0.6, 0.8], 1),
        ];
        write(&store, &[Write::Upsert(first)]);
        let mut memory = Memory::load(&store, 2).expect("loads");
        columns(&mut memory, &store, BTreeSet::from(["size".to_owned()]));
        assert_eq!(rows_of_size(&memory, 1), [0, 1, 3, 2]);
        let nothing = memory.missed(&store).expect("compares");
        assert!(nothing.added.is_empty() && nothing.removed.is_empty());

        // Behind its back: one replaced, one deleted, one patched, one new.
        let metadata = json!({ "size": 2 }).as_object().cloned().expect("an object");
        let patch = Patch { ids: BTreeSet::from(["d".to_owned()]), metadata };
        write(
            &store,
            &[
                Write::Upsert(vec![item("a", "r", [0.0, 1.0], 1), item("e", "q", [1.0, 0.0], 2)]),
                Write::Delete(vec!["b".into()]),
                Write::Patch(vec![patch]),
            ],
        );
        let missed = memory.missed(&store).expect("compares");
        assert_eq!((missed.added.len(), missed.removed.as_slice()), (2, &[0, 1][..]));
        memory.take_in(missed);
        let fields = memory.column_fields();
        assert_eq!(fields, BTreeSet::from(["size".to_owned()]));
        columns(&mut memory, &store, fields);

        let mut fresh = Memory::load(&store, 2).expect("loads");
        columns(&mut fresh, &store, BTreeSet::from(["size".to_owned()]));
        assert_eq!((memory.count(), memory.product_count()), (fresh.count(), fresh.product_count()));
        for product in ["p", "q", "r"] {
            assert_eq!(memory.rows_of_product(product), fresh.rows_of_product(product), "{product}");
        }
        for (size, rows) in [(1, [2, 4]), (2, [5, 3])] {
            assert_eq!(rows_of_size(&memory, size), rows);
            assert_eq!(rows_of_size(&fresh, size), rows);
        }
        assert_eq!(memory.tombstones(), 2);
    }

    #[test]
    fn another_store_in_the_place_of_the_first_is_noticed() {
        let (one, other) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
        let (one, other) = (open(&one), open(&other));
        write(&one, &[Write::Upsert(vec![item("a", "p", [1.0, 0.0], 1)])]);
        write(&other, &[Write::Upsert(vec![item("a", "p", [0.0, 1.0], 1)])]);
        let memory = Memory::load(&one, 2).expect("loads");
        assert!(matches!(memory.missed(&other), Err(IndexError::Damaged { .. })));
        assert!(memory.missed(&one).is_ok());
    }
}
