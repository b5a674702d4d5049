//! What searches look at: vectors, products and metadata columns in memory. All of it can be rebuilt from the store.
//!
//! Rows of the store sit in *slots*, in the order of their row numbers. A removed row leaves its slot behind, marked dead.

mod bits;
mod codes;
mod columns;
mod exact;
mod products;
mod rows;
mod top;

use std::collections::BTreeSet;

use bits::Bits;
use columns::{Built, Columns};
use exact::Exact;
use products::Products;
use rows::Rows;
use top::Top;

use crate::{
    Filter, IndexError, SearchRequest,
    store::{Change, Store},
};

pub(crate) use top::Scored;

/// Everything in memory about one store.
pub(crate) struct Memory {
    rows: Rows,
    live: Bits,
    live_count: usize,
    products: Products,
    columns: Columns,
}

impl Memory {
    /// Empty, for vectors of `dim` values.
    pub(crate) fn new(dim: usize) -> Self {
        Self {
            rows: Rows::new(dim),
            live: Bits::default(),
            live_count: 0,
            products: Products::default(),
            columns: Columns::default(),
        }
    }

    /// Reads a store.
    pub(crate) fn load(store: &Store, dim: usize) -> Result<Self, IndexError> {
        let mut memory = Self::new(dim);
        store.for_each_row(|row, product_id, vector| {
            memory.add(row, product_id, vector);
        })?;
        Ok(memory)
    }

    /// Makes the same changes as were made in the store.
    pub(crate) fn apply(&mut self, change: &Change<'_>) {
        match change {
            Change::Added { row, item } => {
                let slot = self.add(*row, &item.product_id, &item.vector);
                self.columns.add(slot, &item.metadata);
            }
            Change::Removed { row } => self.remove(*row),
        }
    }

    fn add(&mut self, row: u64, product_id: &str, vector: &[f32]) -> u32 {
        let slot = self.rows.push(row, vector);
        self.products.push(slot, product_id);
        self.live.insert(slot);
        self.live_count += 1;
        slot
    }

    fn remove(&mut self, row: u64) {
        if let Some(slot) = self.rows.slot_of(row)
            && self.live.remove(slot)
        {
            self.live_count -= 1;
            self.products.remove(slot);
        }
    }

    /// Number of live items.
    pub(crate) fn count(&self) -> usize {
        self.live_count
    }

    /// Number of products with a live item.
    pub(crate) fn product_count(&self) -> usize {
        self.products.live_count()
    }

    /// Slots whose row is gone.
    pub(crate) fn tombstones(&self) -> usize {
        self.rows.len() - self.live_count
    }

    /// The store's row numbers of these results.
    pub(crate) fn row_numbers(&self, results: &[Scored]) -> Vec<u64> {
        results.iter().map(|result| self.rows.row_number(result.slot)).collect()
    }

    /// Fields that the filter looks at and that have no column yet.
    pub(crate) fn missing_columns(&self, filter: &Filter) -> BTreeSet<String> {
        self.columns.missing(filter)
    }

    /// Builds columns from the store. The store must not be ahead of this memory.
    pub(crate) fn build_columns(&self, store: &Store, fields: BTreeSet<String>) -> Result<Built, IndexError> {
        columns::build(store, fields, |row| self.rows.slot_of(row))
    }

    /// Takes in columns made by [`Memory::build_columns`], if nothing was written in between.
    pub(crate) fn insert_columns(&mut self, built: Built) {
        self.columns.insert(built);
    }

    /// The best slots for a unit vector, best first: `offset + k` of them at most, those left out by `offset` included.
    pub(crate) fn search(&self, query: &[f32], request: &SearchRequest) -> Vec<Scored> {
        let allowed = request.filter.as_ref().map(|filter| {
            let slots = self.columns.select(filter, &self.products, self.rows.len());
            Bits::of(&slots, self.rows.len())
        });
        let wanted = request.k.saturating_add(request.offset).min(self.live_count);
        let mut top = Top::new(wanted, request.threshold, request.group_by_product);
        let mut exact = Exact::new(&self.rows, &self.products, query, &top);
        exact.scan(0..self.live.words(), &self.live, allowed.as_ref());
        exact.finish(&mut top);
        top.finish()
    }
}
