//! Searching the graph: down the layers to good starts, then outwards through the lowest, best first.

use super::{END, Graph, Sketches, sketch::QuerySketch};
use crate::{
    kernels::{self, FOUR},
    memory::{QueryCodes, Rows},
};

/// Marks a pool entry whose links have been followed.
pub(super) const FOLLOWED: u32 = 1 << 31;

/// A query on its way.
pub(crate) struct Walk<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) rows: &'a Rows,
    pub(crate) query: &'a QueryCodes,
    /// The query itself.
    pub(crate) vector: &'a [f32],
}

/// Memory that searches use again and again.
#[derive(Default)]
pub(crate) struct Scratch {
    /// One bit for each node: seen.
    seen: Vec<u64>,
    /// Slots to compare next.
    batch: Vec<u32>,
    /// Slots that were seen in an upper layer.
    pub(super) trail: Vec<u32>,
    /// Estimates of the slots to compare.
    pub(super) estimates: Vec<f32>,
    /// The best so far with their estimates, best first; slots carry [`FOLLOWED`].
    pub(super) pool: Vec<(f32, u32)>,
}

impl Scratch {
    /// Notes a node as seen; true if it was not before.
    #[inline]
    pub(super) fn see(&mut self, node: u32) -> bool {
        let (word, bit) = (&mut self.seen[node as usize / 64], 1u64 << (node % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Notes a node as not seen.
    #[inline]
    pub(super) fn forget(&mut self, node: u32) {
        self.seen[node as usize / 64] &= !(1u64 << (node % 64));
    }

    /// Notes the nodes of a list as seen; `new` becomes those that were not before.
    #[inline]
    pub(super) fn meet(&mut self, list: &[u32], new: &mut Vec<u32>) {
        new.resize(list.len(), 0);
        let mut count = 0;
        for &node in list.iter().take_while(|&&node| node != END) {
            // Without a branch: which nodes are new cannot be foreseen.
            new[count] = node;
            count += usize::from(self.see(node));
        }
        new.truncate(count);
    }

    /// Puts a slot in its place among the best `effort`; the place, if it is one of them.
    #[inline]
    pub(super) fn offer(&mut self, estimate: f32, slot: u32, effort: usize) -> Option<usize> {
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
        let sketch = self.graph.sketches.as_ref().map(|sketches| (sketches, sketches.query(self.vector)));
        let mut batch = std::mem::take(&mut scratch.batch);
        self.descend(&sketch, effort, scratch, &mut batch);
        let mut next = 0;
        while let Some(entry) = scratch.pool.get_mut(next) {
            if entry.1 & FOLLOWED != 0 {
                next += 1;
                continue;
            }
            let node = entry.1;
            entry.1 |= FOLLOWED;
            next += 1;
            scratch.meet(self.graph.list(node), &mut batch);
            // Unless this node's links lead to something better, the next to be followed is known: its list can be on its way.
            let soon = scratch.pool[next..].iter().map(|entry| entry.1).find(|slot| slot & FOLLOWED == 0);
            let soon = soon.map_or(&[][..], |slot| self.graph.list(slot));
            kernels::prefetch(soon);
            let floor = scratch.pool.last().filter(|_| scratch.pool.len() >= effort);
            self.sift(&sketch, floor.map_or(f32::NEG_INFINITY, |worst| worst.0), &mut batch);
            if let Some((sketches, _)) = &sketch {
                soon.iter().take_while(|&&link| link != END).for_each(|&link| sketches.prefetch(link));
            }
            self.compare(&batch, |estimate, slot| {
                if let Some(place) = scratch.offer(estimate, slot, effort)
                    && place <= next
                {
                    next = place;
                    // It may well be the next to be followed.
                    kernels::prefetch(self.graph.list(slot));
                }
            });
        }
        scratch.batch = batch;
        scratch.pool.iter_mut().for_each(|entry| entry.1 &= !FOLLOWED);
        &scratch.pool
    }

    /// Leaves out slots that almost certainly score less than `floor`, and has the others fetched.
    #[inline]
    fn sift(&self, sketch: &Option<(&Sketches, QuerySketch)>, floor: f32, slots: &mut Vec<u32>) {
        if let Some((sketches, query)) = sketch {
            slots.iter().for_each(|&slot| sketches.prefetch(slot));
            if floor > f32::NEG_INFINITY {
                sketches.sift(query, floor, slots);
            }
        }
        slots.iter().for_each(|&slot| self.rows.prefetch_codes(slot));
    }

    /// Estimates of many rows, in order.
    #[inline]
    pub(super) fn compare(&self, slots: &[u32], mut each: impl FnMut(f32, u32)) {
        let (fours, rest) = slots.as_chunks::<FOUR>();
        for four in fours {
            let sums = kernels::dot_four(self.query.codes(), four.map(|slot| self.rows.row_codes(slot)));
            for (&slot, sum) in four.iter().zip(sums) {
                each(self.query.scaled(sum, self.scale(slot)), slot);
            }
        }
        for &slot in rest {
            each(self.estimate(slot), slot);
        }
    }

    /// Value of a step of a slot's codes.
    #[inline]
    fn scale(&self, slot: u32) -> f32 {
        let kept = self.graph.sketches.as_ref().and_then(|sketches| sketches.scale(slot));
        kept.unwrap_or_else(|| self.rows.scale(slot))
    }

    pub(super) fn estimate(&self, slot: u32) -> f32 {
        let mut sum = [0];
        kernels::dot_rows(self.query.codes(), self.rows.row_codes(slot), &mut sum);
        self.query.scaled(sum[0], self.scale(slot))
    }
}
