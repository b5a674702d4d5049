//! What searches look at: vectors, products and metadata columns in memory. All of it can be rebuilt from the store.
//!
//! Rows of the store sit in *slots*, in the order of their row numbers. A removed row leaves its slot behind, marked dead, until a
//! compaction makes the next generation without it.

mod bits;
mod by_graph;
mod catch_up;
mod codes;
mod columns;
mod compaction;
mod exact;
mod products;
mod question;
mod rows;
mod search;
mod top;

use std::{collections::BTreeSet, sync::mpsc, thread};

use bits::Bits;
use columns::{Built, Columns};
use products::Products;

use crate::{
    Filter, GraphInfo, IndexError, ProductSummary,
    graph::Graph,
    store::{Change, Store},
};

pub(crate) use codes::QueryCodes;
pub(crate) use compaction::Compaction;
pub(crate) use question::Question;
pub(crate) use rows::Rows;
pub(crate) use top::Scored;

/// Rows that are handed over at a time while a store is read, and chunks of them that may wait.
const CHUNK: usize = 512;
const CHUNKS: usize = 4;

/// Rows read from a store.
#[derive(Default)]
struct Chunk {
    rows: Vec<(u64, String)>,
    /// `[rows, dim]`.
    vectors: Vec<f32>,
}

/// Everything in memory about one store.
pub(crate) struct Memory {
    generation: u64,
    rows: Rows,
    live: Bits,
    live_count: usize,
    products: Products,
    columns: Columns,
    /// Covers the first slots; `None` while every search is exact.
    graph: Option<Graph>,
}

impl Memory {
    /// Empty, for vectors of `dim` values.
    pub(crate) fn new(dim: usize) -> Self {
        Self {
            generation: 0,
            rows: Rows::new(dim),
            live: Bits::default(),
            live_count: 0,
            products: Products::default(),
            columns: Columns::default(),
            graph: None,
        }
    }

    /// Reads a store: one thread reads and checks, this one makes of it what searches need.
    pub(crate) fn load(store: &Store, dim: usize) -> Result<Self, IndexError> {
        let mut memory = Self::new(dim);
        let (chunks, read) = mpsc::sync_channel::<Chunk>(CHUNKS);
        thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut chunk = Chunk::default();
                store.for_each_row(|row, product_id, vector| {
                    chunk.rows.push((row, product_id.to_owned()));
                    chunk.vectors.extend_from_slice(vector);
                    if chunk.rows.len() == CHUNK {
                        // Nobody takes it only if the other side has panicked, and then nothing matters any more.
                        let _ = chunks.send(std::mem::take(&mut chunk));
                    }
                })?;
                let _ = chunks.send(chunk);
                Ok(())
            });
            for Chunk { rows, vectors } in read {
                for ((row, product_id), vector) in rows.iter().zip(vectors.chunks_exact(dim)) {
                    memory.add(*row, product_id, vector);
                }
            }
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
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
            Change::Patched { row, old, new } => {
                if let Some(slot) = self.rows.slot_of(*row) {
                    self.columns.change(slot, old, new);
                }
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

    /// Counts compactions.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
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

    /// Memory for vectors, codes and graph, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.rows.bytes() + self.graph.as_ref().map_or(0, Graph::bytes)
    }

    /// Vectors and codes.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Has searches use a graph over the first slots, which are all live.
    pub(crate) fn set_graph(&mut self, graph: Graph) {
        self.graph = Some(graph);
    }

    /// Slots that searches compare with one by one, although there is a graph.
    pub(crate) fn fresh(&self) -> usize {
        self.graph.as_ref().map_or(0, |graph| self.rows.len() - graph.len())
    }

    /// Figures about the graph.
    pub(crate) fn graph_info(&self) -> Option<GraphInfo> {
        self.graph.as_ref().map(|graph| GraphInfo {
            items: graph.len(),
            fresh: self.fresh(),
            layers: graph.layers(),
        })
    }

    /// Products with live items in order of their ids, after `after`.
    pub(crate) fn products(&self, after: Option<&str>, limit: usize) -> Vec<ProductSummary> {
        let list = self.products.list(after).take(limit);
        list.map(|(id, items)| ProductSummary { product_id: id.to_owned(), items }).collect()
    }

    /// Row numbers of a product's live items, ascending.
    pub(crate) fn rows_of_product(&self, id: &str) -> Vec<u64> {
        let slots = self.products.slots_of(id).iter().filter(|&&slot| self.live.contains(slot));
        slots.map(|&slot| self.rows.row_number(slot)).collect()
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
}
