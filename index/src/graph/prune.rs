//! Better links from those that are there: both directions, and none that another one makes needless.
//!
//! `hnsw_rs` chooses a new node's own links so that they point in different directions, but when a list overflows it drops
//! the farthest, and with it the links between clusters. So all lists are chosen anew once every node is in.

use rayon::prelude::*;

use super::{END, Graph};
use crate::memory::Rows;

/// Candidates that are looked at for a node's list, the nearest.
const CANDIDATES: usize = 128;

/// Chooses every node's links anew, out of its links, those who link to it.
pub(super) fn diversify(graph: &mut Graph, rows: &Rows, threads: usize) {
    let (nodes, width) = (graph.nodes, graph.width);
    let incoming = Incoming::of(graph);
    let mut base = vec![END; graph.base.len()];
    let choose = |(node, list): (usize, &mut [u32])| {
        let node = node as u32;
        let mut candidates: Vec<u32> = graph.links_of(node).collect();
        candidates.extend_from_slice(incoming.of_node(node));
        candidates.sort_unstable();
        candidates.dedup();
        select(rows, node, &candidates, list);
    };
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(|| {
            base.par_chunks_mut(width).enumerate().with_min_len(64).for_each(choose);
        }),
        // Without threads of its own it takes longer, that is all.
        Err(_) => base.chunks_mut(width).enumerate().for_each(choose),
    }
    debug_assert_eq!(base.len(), nodes * width);
    graph.base = base;
}

/// Fills a node's list from candidates: nearest first, passing over one that is nearer to a chosen one than to the node; what
/// room is left goes to the nearest of those passed over.
pub(super) fn select(rows: &Rows, node: u32, candidates: &[u32], list: &mut [u32]) {
    let mut near: Vec<(f32, u32)> = candidates
        .iter()
        .filter(|&&candidate| candidate != node)
        .map(|&candidate| (rows.similarity(node, candidate), candidate))
        .collect();
    near.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    near.truncate(CANDIDATES);
    let mut chosen: Vec<(f32, u32)> = Vec::with_capacity(list.len());
    let mut passed_over: Vec<(f32, u32)> = Vec::new();
    for &(similarity, candidate) in &near {
        if chosen.len() == list.len() {
            break;
        }
        let needless = chosen.iter().any(|&(_, other)| rows.similarity(candidate, other) > similarity);
        if needless { &mut passed_over } else { &mut chosen }.push((similarity, candidate));
    }
    let room = list.len() - chosen.len();
    chosen.extend(passed_over.into_iter().take(room));
    chosen.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    list.fill(END);
    list.iter_mut().zip(chosen).for_each(|(place, (_, link))| *place = link);
}

/// Who links to each node in the lowest layer.
pub(super) struct Incoming {
    starts: Vec<u32>,
    from: Vec<u32>,
}

impl Incoming {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut starts = vec![0u32; graph.nodes + 1];
        for node in 0..graph.nodes as u32 {
            graph.links_of(node).for_each(|link| starts[link as usize + 1] += 1);
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        let mut next = starts.clone();
        let mut from = vec![0; starts[graph.nodes] as usize];
        for node in 0..graph.nodes as u32 {
            for link in graph.links_of(node) {
                from[next[link as usize] as usize] = node;
                next[link as usize] += 1;
            }
        }
        Self { starts, from }
    }

    pub(super) fn of_node(&self, node: u32) -> &[u32] {
        &self.from[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }
}
