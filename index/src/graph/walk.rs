//! Searching the graph: down the layers to a good start, then outwards through the lowest, best first.

use super::{END, Graph};
use crate::{
    kernels::{self, FOUR},
    memory::{QueryCodes, Rows},
};

/// Rows fetched ahead of the one that is compared.
const AHEAD: usize = 2 * FOUR;
/// Marks a pool entry whose links have been followed.
const FOLLOWED: u32 = 1 << 31;

/// A query on its way.
pub(crate) struct Walk<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) rows: &'a Rows,
    pub(crate) query: &'a QueryCodes,
}

/// Memory that searches use again and again.
#[derive(Default)]
pub(crate) struct Scratch {
    /// One bit for each node: seen.
    seen: Vec<u64>,
    /// Slots to compare next.
    batch: Vec<u32>,
    /// The best so far with their estimates, best first; slots carry [`FOLLOWED`].
    pool: Vec<(f32, u32)>,
}

impl Scratch {
    /// Notes a node as seen; true if it was not before.
    #[inline]
    fn see(&mut self, node: u32) -> bool {
        let (word, bit) = (&mut self.seen[node as usize / 64], 1u64 << (node % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Puts a slot in its place among the best `effort`; the place, if it is one of them.
    #[inline]
    fn offer(&mut self, estimate: f32, slot: u32, effort: usize) -> Option<usize> {
        if self.pool.len() >= effort {
            if self.pool.last().is_some_and(|worst| estimate <= worst.0) {
                return None;
            }
            self.pool.pop();
        }
        let place = self.pool.partition_point(|kept| kept.0 >= estimate);
        self.pool.insert(place, (estimate, slot));
        Some(place)
    }
}

impl Walk<'_> {
    /// The best `effort` nodes that are found, with estimates of their scores, best first. Dead ones are among them.
    pub(crate) fn nearest<'s>(&self, effort: usize, scratch: &'s mut Scratch) -> &'s [(f32, u32)] {
        scratch.seen.clear();
        scratch.seen.resize(self.graph.nodes.div_ceil(64), 0);
        scratch.pool.clear();
        if self.graph.nodes == 0 {
            return &scratch.pool;
        }
        let effort = effort.max(1);
        let start = self.descend();
        scratch.see(start);
        scratch.offer(self.estimate(start), start, effort);
        let mut next = 0;
        while let Some(entry) = scratch.pool.get_mut(next) {
            if entry.1 & FOLLOWED != 0 {
                next += 1;
                continue;
            }
            let node = entry.1;
            entry.1 |= FOLLOWED;
            next += 1;
            scratch.batch.clear();
            for &link in self.graph.list(node) {
                if link == END {
                    break;
                }
                if scratch.see(link) {
                    scratch.batch.push(link);
                }
            }
            let batch = std::mem::take(&mut scratch.batch);
            self.compare(&batch, |estimate, slot| {
                if let Some(place) = scratch.offer(estimate, slot, effort) {
                    next = next.min(place);
                }
            });
            scratch.batch = batch;
            if let Some(&(_, best)) = scratch.pool.get(next) {
                kernels::prefetch(self.graph.list((best & !FOLLOWED).min(self.graph.nodes as u32 - 1)));
            }
        }
        scratch.pool.iter_mut().for_each(|entry| entry.1 &= !FOLLOWED);
        &scratch.pool
    }

    /// Estimates of many rows, in order.
    #[inline]
    fn compare(&self, slots: &[u32], mut each: impl FnMut(f32, u32)) {
        slots.iter().take(AHEAD).for_each(|&slot| self.rows.prefetch(slot));
        let (fours, rest) = slots.as_chunks::<FOUR>();
        for (group, four) in fours.iter().enumerate() {
            let coming = slots.iter().skip(group * FOUR + AHEAD).take(FOUR);
            coming.for_each(|&slot| self.rows.prefetch(slot));
            let sums = kernels::dot_four(self.query.codes(), four.map(|slot| self.rows.row_codes(slot)));
            for (&slot, sum) in four.iter().zip(sums) {
                each(self.query.estimate(sum, self.rows.coding(slot)), slot);
            }
        }
        for &slot in rest {
            each(self.estimate(slot), slot);
        }
    }

    fn estimate(&self, slot: u32) -> f32 {
        let mut sum = [0];
        kernels::dot_rows(self.query.codes(), self.rows.row_codes(slot), &mut sum);
        self.query.estimate(sum[0], self.rows.coding(slot))
    }

    /// The node to start from in the lowest layer: in each layer above, the nearest that greedy steps lead to.
    fn descend(&self) -> u32 {
        let mut place = 0;
        for (height, layer) in self.graph.upper.iter().enumerate().rev() {
            let mut best = self.estimate(layer.slots[place as usize]);
            loop {
                let before = place;
                for &link in layer.links_of(before) {
                    let estimate = self.estimate(layer.slots[link as usize]);
                    if estimate > best {
                        (best, place) = (estimate, link);
                    }
                }
                if place == before {
                    break;
                }
            }
            place = layer.below[place as usize];
            if height == 0 {
                return place;
            }
        }
        self.graph.entry
    }
}
