//! Building: `hnsw_rs` inserts, its layers are taken out and made ready for searching.
//!
//! The distance works on 8-bit codes, the same as searches use: a third of the time and a quarter of the memory of f32.
//! Insertion runs on one thread: two insertions of `hnsw_rs` 0.3 that both reach an upper layer hold each other's locks in
//! opposite orders and can wait for ever. What follows (pruning, repair) uses all the threads that it is given.

use std::sync::atomic::{AtomicBool, Ordering};

use hnsw_rs::prelude::{Distance, Hnsw};
use rand::{SeedableRng, seq::SliceRandom};

use super::{END, Graph, Layer, prune, reach};
use crate::{kernels, memory::Rows};

/// Points between two looks at whether to stop.
const STEP: usize = 256;
/// Most layers that `hnsw_rs` makes.
const LAYERS_MAX: usize = 16;
/// Order of insertion: shuffled, because catalogues come sorted and the first points shape the graph.
const SEED: u64 = 0x6466_6d6c;

/// How a graph is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuildOptions {
    /// Links per node in the upper layers, twice as many in the lowest.
    pub(crate) links: usize,
    /// Candidates per insertion.
    pub(crate) effort: usize,
    /// Threads for what follows insertion.
    pub(crate) threads: usize,
}

/// Codes of a row with their scale behind them, as bytes: what `hnsw_rs` compares.
#[derive(Clone, Copy)]
struct CodeDistance {
    width: usize,
}

impl CodeDistance {
    fn point(rows: &Rows, slot: u32) -> Vec<u8> {
        let codes = rows.row_codes(slot);
        let mut point = Vec::with_capacity(codes.len() + size_of::<f32>());
        point.extend_from_slice(codes);
        point.extend_from_slice(&rows.scale(slot).to_ne_bytes());
        point
    }

    fn split<'p>(&self, point: &'p [u8]) -> (&'p [u8], f32) {
        let (codes, scale) = point.split_at(self.width);
        // The last four bytes, as `point` wrote them.
        (codes, scale.first_chunk().map_or(0.0, |bytes| f32::from_ne_bytes(*bytes)))
    }
}

impl Distance<u8> for CodeDistance {
    fn eval(&self, a: &[u8], b: &[u8]) -> f32 {
        let ((a, a_scale), (b, b_scale)) = (self.split(a), self.split(b));
        // Rounding may take a cosine above 1; `hnsw_rs` panics on negative distances.
        (1.0 - kernels::dot_pair(a, b) as f32 * (a_scale * b_scale)).max(0.0)
    }
}

/// A graph over all slots; `None` if there are none, or if it was told to stop.
pub(crate) fn build(rows: &Rows, options: &BuildOptions, stop: &AtomicBool) -> Option<Graph> {
    let nodes = rows.len();
    if nodes == 0 {
        return None;
    }
    let mut order: Vec<u32> = (0..nodes as u32).collect();
    order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(SEED));
    let distance = CodeDistance { width: rows.width() };
    let hnsw = Hnsw::<u8, CodeDistance>::new(options.links, nodes, LAYERS_MAX, options.effort, distance);
    for some in order.chunks(STEP) {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        for &slot in some {
            hnsw.insert((&CodeDistance::point(rows, slot), slot as usize));
        }
    }
    let mut graph = take_out(&hnsw, nodes, options.links * 2);
    drop(hnsw);
    prune::diversify(&mut graph, rows, options.threads);
    reach::connect(&mut graph, rows);
    Some(graph)
}

/// The layers of a built graph in our layout.
fn take_out(hnsw: &Hnsw<'_, u8, CodeDistance>, nodes: usize, width: usize) -> Graph {
    let points = hnsw.get_point_indexation();
    let top = usize::from(hnsw.get_max_level_observed());
    let mut base = vec![END; nodes * width];
    // For each upper layer: slot and linked slots of the nodes that are in it.
    let mut layers: Vec<Vec<(u32, Vec<u32>)>> = vec![Vec::new(); top];
    // A point is listed under its highest layer only.
    for level in 0..=top {
        for point in points.get_layer_iterator(level) {
            let slot = point.get_origin_id() as u32;
            for (layer, links) in point.get_neighborhood_id().into_iter().enumerate().take(level + 1) {
                let links = links.iter().map(|link| link.d_id as u32).filter(|&link| link != slot);
                match layer.checked_sub(1) {
                    None => {
                        let list = &mut base[slot as usize * width..][..width];
                        list.iter_mut().zip(links).for_each(|(place, link)| *place = link);
                    }
                    Some(upper) => layers[upper].push((slot, links.collect())),
                }
            }
        }
    }
    let upper = stack(layers);
    Graph { nodes, width, base, upper, entry: 0 }
}

/// Layers from lists of slots, from the second lowest up.
pub(super) fn stack(layers: Vec<Vec<(u32, Vec<u32>)>>) -> Vec<Layer> {
    let mut stacked: Vec<Layer> = Vec::new();
    for mut nodes in layers {
        if nodes.is_empty() {
            break;
        }
        nodes.sort_unstable_by_key(|(slot, _)| *slot);
        let slots: Vec<u32> = nodes.iter().map(|(slot, _)| *slot).collect();
        let place = |slot: &u32| slots.binary_search(slot).ok().map(|place| place as u32);
        let mut layer = Layer { starts: vec![0], ..Layer::default() };
        for (slot, links) in &nodes {
            layer.links.extend(links.iter().filter_map(place));
            layer.starts.push(layer.links.len() as u32);
            // A node that is missing below, which a sound graph does not have, is reached by its slot's neighbour there.
            layer.below.push(match stacked.last() {
                Some(below) => {
                    below.slots.binary_search(slot).unwrap_or_else(|near| near.min(below.slots.len() - 1))
                        as u32
                }
                None => *slot,
            });
        }
        layer.slots = slots;
        stacked.push(layer);
    }
    stacked
}
