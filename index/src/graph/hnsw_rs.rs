//! Building by the crate `hnsw_rs`: its layers are taken out into our layout, pruned and repaired as our own are.
//!
//! Insertion runs on one thread: two insertions of `hnsw_rs` 0.3 that both reach an upper layer hold each other's locks in
//! opposite orders and can wait for ever.

use std::sync::atomic::{AtomicBool, Ordering};

use hnsw_rs::prelude::{Distance, Hnsw};
use rand::{SeedableRng, seq::SliceRandom};

use super::{
    Graph, Sketches,
    build::{BuildOptions, SEED, stack},
};
use crate::{kernels, memory::Rows};

/// Points between two looks at whether to stop.
const STEP: usize = 256;
/// Most layers that `hnsw_rs` makes.
const LAYERS_MAX: usize = 16;

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

/// A graph over all slots, of which there is at least one; `None` if it was told to stop.
pub(super) fn build(rows: &Rows, options: &BuildOptions, stop: &AtomicBool) -> Option<Graph> {
    let nodes = rows.len();
    let mut order: Vec<u32> = (0..nodes as u32).collect();
    order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(SEED));
    let distance = CodeDistance { width: rows.row_codes(0).len() };
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
    graph.sketches = Some(Sketches::of(rows, nodes));
    Some(graph)
}

/// The layers of a built graph in our layout.
fn take_out(hnsw: &Hnsw<'_, u8, CodeDistance>, nodes: usize, width: usize) -> Graph {
    let points = hnsw.get_point_indexation();
    let top = usize::from(hnsw.get_max_level_observed());
    let mut graph = Graph::without_links(nodes, width);
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
                        let list = graph.list_mut(slot);
                        list.iter_mut().zip(links).for_each(|(place, link)| *place = link);
                    }
                    Some(upper) => layers[upper].push((slot, links.collect())),
                }
            }
        }
    }
    graph.upper = stack(layers);
    graph
}
