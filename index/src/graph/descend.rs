//! The way down the upper layers, to where a search of the lowest one starts.

use super::{
    Layer, Sketches,
    sketch::QuerySketch,
    walk::{FOLLOWED, Scratch, Walk},
};

/// Nodes that are handed down from each layer to the next. With one, as is usual, about one query in a hundred ends among the nodes of
/// a wrong category and stays there: with eight, recall 0.99 of 300,000 vectors takes about
/// two thirds of the time (docs/results/index.md).
const BEAM: usize = 8;

impl Walk<'_> {
    /// Fills the pool, which is empty, with nodes of the lowest layer to start from, at most `effort`.
    pub(super) fn descend(
        &self,
        sketch: &Option<(&Sketches, QuerySketch)>,
        effort: usize,
        scratch: &mut Scratch,
        batch: &mut Vec<u32>,
    ) {
        let top = self.graph.top_slot();
        scratch.offer(self.estimate(top), top, BEAM);
        for layer in self.graph.upper.iter().rev() {
            self.spread(layer, sketch, scratch, batch);
        }
        // Sketches led here; from here on it is the codes that count.
        batch.clear();
        batch.extend(scratch.pool.drain(..).map(|entry| entry.1));
        for &slot in &*batch {
            self.rows.prefetch_codes(slot);
            scratch.see(slot);
        }
        self.compare(batch, |estimate, slot| _ = scratch.offer(estimate, slot, effort));
    }

    /// Replaces the pool, which has nodes of a layer, by the best of that layer that they lead to.
    fn spread(
        &self,
        layer: &Layer,
        sketch: &Option<(&Sketches, QuerySketch)>,
        scratch: &mut Scratch,
        batch: &mut Vec<u32>,
    ) {
        let (mut trail, mut estimates) =
            (std::mem::take(&mut scratch.trail), std::mem::take(&mut scratch.estimates));
        trail.extend(scratch.pool.iter().map(|entry| entry.1));
        trail.iter().for_each(|&slot| _ = scratch.see(slot));
        let mut next = 0;
        while let Some(entry) = scratch.pool.get_mut(next) {
            next += 1;
            if entry.1 & FOLLOWED != 0 {
                continue;
            }
            let slot = entry.1;
            entry.1 |= FOLLOWED;
            scratch.meet(layer.links_of(slot), batch);
            trail.extend_from_slice(batch);
            let mut offer = |estimate: f32, slot: u32| {
                if let Some(place) = scratch.offer(estimate, slot, BEAM) {
                    next = next.min(place);
                }
            };
            match sketch {
                Some((sketches, query)) => {
                    sketches.estimates(query, batch, &mut estimates);
                    estimates.iter().zip(&*batch).for_each(|(&estimate, &slot)| offer(estimate, slot));
                }
                None => self.compare(batch, &mut offer),
            }
        }
        // Most of them are to be met again in the layer below.
        trail.drain(..).for_each(|slot| scratch.forget(slot));
        (scratch.trail, scratch.estimates) = (trail, estimates);
        scratch.pool.iter_mut().for_each(|entry| entry.1 &= !FOLLOWED);
    }
}
