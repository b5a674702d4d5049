//! The search graph (HNSW), built and searched in a flat layout on 8-bit codes.
//!
//! A graph covers the first slots of a generation of memory, and node numbers are slot numbers. It is never changed: newer
//! slots are searched one by one, dead ones are walked over, until the next generation has its own graph.

mod build;
mod descend;
mod hnsw_rs;
mod prune;
mod reach;
mod sketch;
mod snapshot;
mod walk;

use sketch::Sketches;

use crate::block::Block;

pub(crate) use build::{BuildOptions, build};
pub(crate) use snapshot::{FILE, Loaded, load, save};
pub(crate) use walk::{Scratch, Walk};

/// Ends a list of links that is not full.
const END: u32 = u32::MAX;

/// Links between slots, in layers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Graph {
    /// Nodes: slots `0..nodes`.
    nodes: usize,
    /// Most links of a node in the lowest layer.
    width: usize,
    /// Links of the lowest layer, `[nodes, width]`, nearest first; what is left of a list holds [`END`].
    base: Block<u32>,
    /// The layers above the lowest, from the second lowest up. Each has a node.
    upper: Vec<Layer>,
    /// Where a search begins if there is no upper layer.
    entry: u32,
    /// Sketches of the nodes, once they have been made.
    sketches: Option<Sketches>,
}

/// A layer that only some nodes are in. Who is in a layer is in all those below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Layer {
    /// The nodes, ascending.
    slots: Vec<u32>,
    /// Where the links of each node begin in `links`, and at the end where the last ones end.
    starts: Vec<u32>,
    /// Nodes.
    links: Vec<u32>,
}

impl Layer {
    /// Links of a node; none if it is not in this layer.
    fn links_of(&self, slot: u32) -> &[u32] {
        let Ok(place) = self.slots.binary_search(&slot) else { return &[] };
        &self.links[self.starts[place] as usize..self.starts[place + 1] as usize]
    }
}

impl Graph {
    /// Slots that the graph covers: the first ones.
    pub(crate) fn len(&self) -> usize {
        self.nodes
    }

    /// Layers, the lowest included.
    pub(crate) fn layers(&self) -> usize {
        1 + self.upper.len()
    }

    /// Memory in use, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let words = |layer: &Layer| layer.slots.len() + layer.starts.len() + layer.links.len();
        let links = (self.base.len() + self.upper.iter().map(words).sum::<usize>()) * size_of::<u32>();
        links as u64 + self.sketches.as_ref().map_or(0, Sketches::bytes)
    }

    /// Links of a node in the lowest layer, the unused end included.
    #[inline]
    fn list(&self, node: u32) -> &[u32] {
        &self.base[node as usize * self.width..][..self.width]
    }

    /// Links of a node in the lowest layer.
    fn links_of(&self, node: u32) -> impl Iterator<Item = u32> {
        self.list(node).iter().copied().take_while(|&link| link != END)
    }

    fn list_mut(&mut self, node: u32) -> &mut [u32] {
        &mut self.base[node as usize * self.width..][..self.width]
    }

    /// Slots that searches may start from: those of the highest layer.
    fn top_slot(&self) -> u32 {
        self.upper.last().and_then(|layer| layer.slots.first()).copied().unwrap_or(self.entry)
    }
}
