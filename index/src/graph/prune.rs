//! Which links a node gets: near ones that point in different directions.

use rayon::prelude::*;

use super::{END, Graph};
use crate::{block::Block, memory::Rows};

/// Candidates that are looked at for a node's list, the nearest.
const CANDIDATES: usize = 128;

/// Chooses every node's links anew, out of its links and those who link to it. While points are inserted, a list is cut
/// knowing only some of them.
pub(super) fn diversify(graph: &mut Graph, rows: &Rows) {
    let width = graph.width;
    let incoming = Incoming::of(graph);
    let mut base = Block::filled(END, graph.base.len());
    base.par_chunks_mut(width).enumerate().with_min_len(64).for_each(|(node, list)| {
        let node = node as u32;
        let mut candidates: Vec<u32> = graph.links_of(node).collect();
        candidates.extend_from_slice(incoming.of_node(node));
        candidates.sort_unstable();
        candidates.dedup();
        select(rows, node, &candidates, list);
    });
    graph.base = base;
}

/// Candidates with their similarity to a node, nearest first.
fn by_similarity(rows: &Rows, node: u32, candidates: &[u32]) -> Vec<(f32, u32)> {
    let others = candidates.iter().filter(|&&candidate| candidate != node);
    let mut near: Vec<(f32, u32)> =
        others.map(|&candidate| (rows.similarity(node, candidate), candidate)).collect();
    near.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    near.truncate(CANDIDATES);
    near
}

/// Those among the candidates, nearest first, that are nearer to the node than to any chosen before them; `most` at most. The
/// others, in the same order, go to `passed_over`.
fn choose(
    rows: &Rows,
    near: &[(f32, u32)],
    most: usize,
    mut passed_over: impl FnMut((f32, u32)),
) -> Vec<(f32, u32)> {
    let mut chosen: Vec<(f32, u32)> = Vec::with_capacity(most);
    for &(similarity, candidate) in near {
        if chosen.len() == most {
            break;
        }
        let needless = chosen.iter().any(|&(_, other)| rows.similarity(candidate, other) > similarity);
        if needless {
            passed_over((similarity, candidate));
        } else {
            chosen.push((similarity, candidate));
        }
    }
    chosen
}

/// Links of a new node out of what a search for it found, best first.
pub(super) fn select_near(rows: &Rows, near: &[(f32, u32)], node: u32, most: usize) -> Vec<u32> {
    let near: Vec<(f32, u32)> = near.iter().copied().filter(|&(_, other)| other != node).collect();
    choose(rows, &near, most, |_| {}).into_iter().map(|(_, link)| link).collect()
}

/// The candidates that point in different directions, `most` at most.
pub(super) fn diverse(rows: &Rows, node: u32, candidates: &[u32], most: usize) -> Vec<u32> {
    let near = by_similarity(rows, node, candidates);
    choose(rows, &near, most, |_| {}).into_iter().map(|(_, link)| link).collect()
}

/// Fills a node's list from candidates: first those that point in different directions; what room is left goes to the nearest of
/// the others.
pub(super) fn select(rows: &Rows, node: u32, candidates: &[u32], list: &mut [u32]) {
    let near = by_similarity(rows, node, candidates);
    let mut passed_over: Vec<(f32, u32)> = Vec::new();
    let mut chosen = choose(rows, &near, list.len(), |passed| passed_over.push(passed));
    let room = list.len() - chosen.len();
    chosen.extend(passed_over.into_iter().take(room));
    chosen.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    list.fill(END);
    list.iter_mut().zip(chosen).for_each(|(place, (_, link))| *place = link);
}

/// Who links to each node in the lowest layer.
pub(super) struct Incoming {
    /// Where those of each node begin in `from`, and at the end where the last ones end. All links together may be more than a u32
    /// counts.
    starts: Vec<usize>,
    from: Vec<u32>,
}

impl Incoming {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut starts = vec![0; graph.nodes + 1];
        for node in 0..graph.nodes as u32 {
            graph.links_of(node).for_each(|link| starts[link as usize + 1] += 1);
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        let mut next = starts.clone();
        let mut from = vec![0; starts[graph.nodes]];
        for node in 0..graph.nodes as u32 {
            for link in graph.links_of(node) {
                from[next[link as usize]] = node;
                next[link as usize] += 1;
            }
        }
        Self { starts, from }
    }

    pub(super) fn of_node(&self, node: u32) -> &[u32] {
        &self.from[self.starts[node as usize]..self.starts[node as usize + 1]]
    }
}
