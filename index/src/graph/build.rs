//! Building: layer by layer from the highest, each begun with the links of the one above it.
//!
//! The points of a layer are inserted in batches. All points of a batch look for their neighbours in the graph as it was before
//! the batch, on as many threads as are given; then the links are set. As a batch is a small part of what is there already,
//! that costs no recall, needs no locks, and gives the same graph whatever the number of threads.
//!
//! All distances are those of the 8-bit codes, as in searches: a third of the time and a quarter of the memory of f32.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicBool, Ordering},
};

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rayon::prelude::*;

use super::{END, Graph, Layer, Scratch, Sketches, Walk, hnsw_rs, prune, reach};
use crate::{GraphBuilder, block::Block, memory::Rows};

/// A batch is this part of the points that are in already, within bounds.
const BATCH_PART: usize = 32;
const BATCH_MAX: usize = 512;
/// Most layers above the lowest.
const UPPER_MAX: usize = 16;
/// Order of insertion: shuffled, because catalogues come sorted and the first points shape the graph.
pub(super) const SEED: u64 = 0x6466_6d6c;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// How a graph is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuildOptions {
    /// Links per node in the upper layers, twice as many in the lowest.
    pub(crate) links: usize,
    /// Candidates per insertion.
    pub(crate) effort: usize,
    /// Threads.
    pub(crate) threads: usize,
    /// What inserts the points.
    pub(crate) builder: GraphBuilder,
}

/// A graph over all slots; `None` if there are none, or if it was told to stop.
pub(crate) fn build(rows: &Rows, options: &BuildOptions, stop: &AtomicBool) -> Option<Graph> {
    if rows.len() == 0 {
        return None;
    }
    match rayon::ThreadPoolBuilder::new().num_threads(options.threads).build() {
        Ok(pool) => pool.install(|| finished(rows, options, stop)),
        // Without threads of its own it shares those of the program.
        Err(_) => finished(rows, options, stop),
    }
}

fn finished(rows: &Rows, options: &BuildOptions, stop: &AtomicBool) -> Option<Graph> {
    let mut graph = match options.builder {
        GraphBuilder::Batches => Build { rows, options, stop }.run()?,
        GraphBuilder::HnswRs => hnsw_rs::build(rows, options, stop)?,
    };
    prune::diversify(&mut graph, rows);
    reach::connect(&mut graph, rows);
    Some(graph)
}

struct Build<'a> {
    rows: &'a Rows,
    options: &'a BuildOptions,
    stop: &'a AtomicBool,
}

impl Build<'_> {
    fn run(&self) -> Option<Graph> {
        let nodes = self.rows.len();
        let mut newcomers = self.newcomers();
        let last = newcomers.pop().unwrap_or_default();
        // From the lowest up, as `stack` wants them.
        let mut layers: Vec<Vec<(u32, Vec<u32>)>> = Vec::new();
        let mut members: Vec<u32> = Vec::new();
        let mut graph = Graph::without_links(nodes, self.options.links);
        graph.sketches = Some(Sketches::of(self.rows, nodes));
        for layer in newcomers {
            self.insert(&mut graph, &layer, members.len())?;
            members.extend(layer);
            layers.insert(0, members.iter().map(|&slot| (slot, graph.links_of(slot).collect())).collect());
            graph.upper = stack(layers.clone());
        }
        let mut graph = graph.widened(self.options.links * 2);
        self.insert(&mut graph, &last, members.len())?;
        Some(graph)
    }

    /// The slots that each layer adds to those of the layers above it, from the highest layer down. The last list is the
    /// lowest layer's; the first is not empty.
    fn newcomers(&self) -> Vec<Vec<u32>> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(SEED);
        let mut order: Vec<u32> = (0..self.rows.len() as u32).collect();
        order.shuffle(&mut random);
        let mut heights: Vec<Vec<u32>> = vec![Vec::new(); UPPER_MAX + 1];
        let per_layer = (self.options.links as f64).ln();
        for slot in order {
            let height = -(1.0 - random.random::<f64>()).ln() / per_layer;
            heights[(height as usize).min(UPPER_MAX)].push(slot);
        }
        while heights.len() > 1 && heights.last().is_some_and(Vec::is_empty) {
            heights.pop();
        }
        heights.reverse();
        heights
    }

    /// Inserts slots into the lowest layer of a graph that has `inserted` others. `None` if it was told to stop.
    fn insert(&self, graph: &mut Graph, slots: &[u32], mut inserted: usize) -> Option<()> {
        let mut rest = slots;
        while !rest.is_empty() {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if inserted == 0 {
                graph.entry = rest[0];
                (inserted, rest) = (1, &rest[1..]);
                continue;
            }
            let batch;
            (batch, rest) = rest.split_at((inserted / BATCH_PART).clamp(1, BATCH_MAX).min(rest.len()));
            self.insert_batch(graph, batch);
            inserted += batch.len();
        }
        Some(())
    }

    fn insert_batch(&self, graph: &mut Graph, batch: &[u32]) {
        let (rows, links) = (self.rows, self.options.links);
        let chosen: Vec<Vec<u32>> = batch
            .par_iter()
            .map(|&slot| {
                SCRATCH.with_borrow_mut(|scratch| {
                    let walk =
                        Walk { graph, rows, query: &rows.query_codes(slot), vector: rows.vector(slot) };
                    prune::select_near(rows, walk.nearest(self.options.effort, scratch), slot, links)
                })
            })
            .collect();
        let mut reverse: Vec<(u32, u32)> = Vec::with_capacity(batch.len() * links);
        for (&slot, chosen) in batch.iter().zip(&chosen) {
            graph.set_list(slot, chosen);
            reverse.extend(chosen.iter().map(|&other| (other, slot)));
        }
        reverse.sort_unstable();
        let groups: Vec<&[(u32, u32)]> = reverse.chunk_by(|a, b| a.0 == b.0).collect();
        let full: Vec<(u32, Vec<u32>)> = groups
            .par_iter()
            .filter_map(|group| {
                let node = group.first()?.0;
                let mut list: Vec<u32> = graph.links_of(node).collect();
                list.extend(group.iter().map(|&(_, slot)| slot));
                if list.len() > graph.width {
                    list = prune::diverse(rows, node, &list, graph.width);
                }
                Some((node, list))
            })
            .collect();
        for (node, list) in &full {
            graph.set_list(*node, list);
        }
    }
}

impl Graph {
    pub(super) fn without_links(nodes: usize, width: usize) -> Self {
        Self {
            nodes,
            width,
            base: Block::filled(END, nodes * width),
            upper: Vec::new(),
            entry: 0,
            sketches: None,
        }
    }

    /// The same graph with longer lists.
    fn widened(self, width: usize) -> Self {
        let mut base = Block::filled(END, self.nodes * width);
        for (wide, list) in base.chunks_exact_mut(width).zip(self.base.chunks_exact(self.width)) {
            wide[..self.width].copy_from_slice(list);
        }
        Self { width, base, ..self }
    }

    fn set_list(&mut self, node: u32, links: &[u32]) {
        let list = self.list_mut(node);
        list.fill(END);
        list.iter_mut().zip(links).for_each(|(place, &link)| *place = link);
    }
}

/// Layers from lists of slots and links, from the second lowest up.
pub(super) fn stack(layers: Vec<Vec<(u32, Vec<u32>)>>) -> Vec<Layer> {
    let some = layers.into_iter().take_while(|nodes| !nodes.is_empty());
    some.map(|mut nodes| {
        nodes.sort_unstable_by_key(|(slot, _)| *slot);
        let slots: Vec<u32> = nodes.iter().map(|(slot, _)| *slot).collect();
        let is_in = |slot: &&u32| slots.binary_search(slot).is_ok();
        let mut layer = Layer { starts: vec![0], ..Layer::default() };
        for (_, links) in &nodes {
            layer.links.extend(links.iter().filter(is_in));
            layer.starts.push(layer.links.len() as u32);
        }
        layer.slots = slots;
        layer
    })
    .collect()
}
