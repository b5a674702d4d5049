//! The next generation of memory: the live rows only, in fresh slots.
//!
//! Made in three steps, so that neither reads nor writes wait for the long one: a copy of what is live ([`Compaction::begin`]),
//! anything that takes long (a graph), and catching up with what was written meanwhile ([`Compaction::finish`]).

use super::{Bits, Memory, Products, Rows, columns::GONE};
use crate::graph::Graph;

/// A generation in the making.
pub(crate) struct Compaction {
    memory: Memory,
    /// For each of its slots the slot in the old generation.
    origin: Vec<u32>,
    /// Slots of the old generation when the copy was made.
    seen: usize,
}

impl Compaction {
    /// Copies the live rows. Nothing may be written to `old` meanwhile.
    pub(crate) fn begin(old: &Memory) -> Self {
        let seen = old.rows.len();
        // Whole blocks without gaps stay where they are.
        let gap = (0..seen as u32).position(|slot| !old.live.contains(slot)).unwrap_or(seen);
        let mut memory = Memory {
            generation: old.generation + 1,
            rows: old.rows.prefix(gap),
            live: Bits::default(),
            live_count: gap,
            products: Products::default(),
            columns: super::Columns::default(),
            graph: None,
        };
        let mut origin: Vec<u32> = (0..gap as u32).collect();
        for &slot in &origin {
            memory.live.insert(slot);
            memory.products.push(slot, old.products.id_of(slot));
        }
        for slot in (gap as u32..seen as u32).filter(|&slot| old.live.contains(slot)) {
            memory.add(old.rows.row_number(slot), old.products.id_of(slot), old.rows.vector(slot));
            origin.push(slot);
        }
        Self { memory, origin, seen }
    }

    /// The rows of the new generation as of the beginning, all of them live.
    pub(crate) fn rows(&self) -> &Rows {
        self.memory.rows()
    }

    /// Has the new generation use a graph over [`Compaction::rows`].
    pub(crate) fn set_graph(&mut self, graph: Graph) {
        self.memory.set_graph(graph);
    }

    /// Takes in what was written since the beginning. From now until the new generation is in use, nothing may be written.
    pub(crate) fn finish(self, old: &Memory) -> Memory {
        let Self { mut memory, origin, seen } = self;
        let mut moved = vec![GONE; old.rows.len()];
        for (new, &slot) in (0u32..).zip(&origin) {
            if old.live.contains(slot) {
                moved[slot as usize] = new;
            } else {
                memory.remove(old.rows.row_number(slot));
            }
        }
        for slot in (seen as u32..old.rows.len() as u32).filter(|&slot| old.live.contains(slot)) {
            let new = memory.add(old.rows.row_number(slot), old.products.id_of(slot), old.rows.vector(slot));
            moved[slot as usize] = new;
        }
        memory.columns = old.columns.moved(&moved);
        memory
    }
}
