//! The graph in a file beside the store, so that opening need not build it.
//!
//! The file names each node's row and the checksum of its vector, so that a graph of other vectors (a store put back from a
//! backup, say) is not taken for this one's. It is a cache: whatever is wrong with it, the graph is built again.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `DFMLGRPH` |
//! | 4 | version, 3 |
//! | 4 | width of the lowest layer's lists |
//! | 4 | entry |
//! | 4 | number of upper layers |
//! | 8 | nodes |
//! | 8 a node | row numbers |
//! | 4 a node | CRC-32 of the vectors |
//! | 4 * width a node | links of the lowest layer |
//! | | for each upper layer: u32 nodes, u32 links; then nodes, starts, links |
//! | 4 | CRC-32 of all before |
//!
//! All numbers are little-endian.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use tempfile::TempPath;

use super::{END, Graph, Layer, Sketches, build::stack, prune, reach};
use crate::{
    IndexError,
    block::Block,
    memory::Rows,
    store::{io_error, sync_folder},
};

/// File name of the snapshot, beside the store.
pub(crate) const FILE: &str = "graph.snapshot";
const PARTIAL: &str = "graph.snapshot.partial";
const MAGIC: &[u8; 8] = b"DFMLGRPH";
const VERSION: u32 = 3;

/// What loading a snapshot came to.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// A graph over the first slots.
    Graph(Graph),
    /// There is no snapshot.
    Absent,
    /// There is one that cannot be used, for this reason.
    Unusable(String),
}

/// Writes a graph whose nodes are the first slots of `rows`: beside the old snapshot, then in its place. If that fails, nothing is
/// left of it: a part of a graph would keep a full disk full.
pub(crate) fn save(folder: &Path, graph: &Graph, rows: &Rows) -> Result<(), IndexError> {
    let target = folder.join(FILE);
    // Always of the same name: only the process that has the store open saves a graph, and what a killed one has left is overwritten.
    let partial = TempPath::try_from_path(folder.join(PARTIAL)).map_err(io_error(folder))?;
    let bytes = encode(graph, rows);
    let mut file = File::create(&partial).map_err(io_error(&partial))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(io_error(&partial))?;
    drop(file);
    partial.persist(&target).map_err(|failed| io_error(&target)(failed.error))?;
    sync_folder(folder)
}

/// Reads the snapshot in a folder for these rows, which are the live ones of the store.
pub(crate) fn load(folder: &Path, rows: &Rows) -> Loaded {
    let path = folder.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Loaded::Absent,
        Err(error) => return Loaded::Unusable(error.to_string()),
    };
    match decode(&bytes).and_then(|snapshot| snapshot.fit(rows)) {
        Ok(mut graph) => {
            graph.sketches = Some(Sketches::of(rows, graph.nodes));
            Loaded::Graph(graph)
        }
        Err(reason) => Loaded::Unusable(reason),
    }
}

fn encode(graph: &Graph, rows: &Rows) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + graph.nodes * (12 + 4 * graph.width));
    bytes.extend_from_slice(MAGIC);
    let head = [VERSION, graph.width as u32, graph.entry, graph.upper.len() as u32];
    put(&mut bytes, &head);
    bytes.extend_from_slice(&(graph.nodes as u64).to_le_bytes());
    for slot in 0..graph.nodes as u32 {
        bytes.extend_from_slice(&rows.row_number(slot).to_le_bytes());
    }
    for slot in 0..graph.nodes as u32 {
        put(&mut bytes, &[vector_sum(rows, slot)]);
    }
    put(&mut bytes, &graph.base);
    for layer in &graph.upper {
        put(&mut bytes, &[layer.slots.len() as u32, layer.links.len() as u32]);
        for part in [&layer.slots, &layer.starts, &layer.links] {
            put(&mut bytes, part);
        }
    }
    let sum = crc32fast::hash(&bytes);
    put(&mut bytes, &[sum]);
    bytes
}

fn put(bytes: &mut Vec<u8>, words: &[u32]) {
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}

fn vector_sum(rows: &Rows, slot: u32) -> u32 {
    crc32fast::hash(bytemuck::cast_slice(rows.vector(slot)))
}

/// A snapshot as read, its nodes still those of when it was written.
struct Snapshot {
    graph: Graph,
    rows: Vec<u64>,
    sums: Vec<u32>,
}

/// Takes numbers off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let (head, rest) = self.0.split_at_checked(count).ok_or("it is too short")?;
        self.0 = rest;
        Ok(head)
    }

    fn words(&mut self, count: usize) -> Result<Vec<u32>, String> {
        let bytes = self.take(count.checked_mul(4).ok_or("it is too short")?)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    fn word(&mut self) -> Result<u32, String> {
        Ok(self.words(1)?[0])
    }

    fn long_words(&mut self, count: usize) -> Result<Vec<u64>, String> {
        let bytes = self.take(count.checked_mul(8).ok_or("it is too short")?)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}

fn decode(bytes: &[u8]) -> Result<Snapshot, String> {
    let body = bytes.len().checked_sub(4).ok_or("it is too short")?;
    let (body, sum) = bytes.split_at(body);
    // The version before the checksum: another version may end in another way.
    let mut reader = Reader(body);
    if reader.take(MAGIC.len())? != MAGIC {
        return Err("it is no graph snapshot".into());
    }
    let version = reader.word()?;
    if version != VERSION {
        return Err(format!("its version is {version}; this program reads {VERSION}"));
    }
    if sum != crc32fast::hash(body).to_le_bytes() {
        return Err("its checksum does not hold".into());
    }
    let (width, entry, layers) = (reader.word()? as usize, reader.word()?, reader.word()?);
    let nodes = usize::try_from(reader.long_words(1)?[0]).map_err(|_| "it is too large")?;
    let (rows, sums) = (reader.long_words(nodes)?, reader.words(nodes)?);
    let links = reader.words(nodes.checked_mul(width).ok_or("it is too large")?)?;
    let mut base = Block::new(links.len().max(1));
    base.extend(&links);
    let mut upper = Vec::new();
    for _ in 0..layers {
        let (slots, links) = (reader.word()? as usize, reader.word()? as usize);
        upper.push(Layer {
            slots: reader.words(slots)?,
            starts: reader.words(slots + 1)?,
            links: reader.words(links)?,
        });
    }
    let graph = Graph { nodes, width, base, upper, entry, sketches: None };
    check(&graph, &rows)?;
    Ok(Snapshot { graph, rows, sums })
}

/// Every number that searches use as a place must be one. The checksum says that they were written so; this, that they can be
/// trusted even if a bug wrote them.
fn check(graph: &Graph, rows: &[u64]) -> Result<(), String> {
    let within = |numbers: &[u32], end: usize| numbers.iter().all(|&number| (number as usize) < end);
    let mut sound = graph.width > 0
        && graph.nodes > 0
        && (graph.entry as usize) < graph.nodes
        && rows.is_sorted_by(|a, b| a < b)
        && graph.base.iter().all(|&link| link == END || (link as usize) < graph.nodes);
    for layer in &graph.upper {
        sound &= !layer.slots.is_empty()
            && within(&layer.slots, graph.nodes)
            && layer.slots.is_sorted_by(|a, b| a < b)
            && layer.links.iter().all(|link| layer.slots.binary_search(link).is_ok())
            && layer.starts.is_sorted()
            && layer.starts.first() == Some(&0)
            && layer.starts.last().is_some_and(|&end| end as usize == layer.links.len());
    }
    if sound { Ok(()) } else { Err("its parts contradict each other".into()) }
}

impl Snapshot {
    /// The graph for the rows that are live now.
    fn fit(self, rows: &Rows) -> Result<Graph, String> {
        let Some(&last) = self.rows.last() else { return Err("it is empty".into()) };
        let mut slots = vec![END; self.rows.len()];
        let mut alive = 0;
        for (node, &row) in self.rows.iter().enumerate() {
            if let Some(slot) = rows.slot_of(row) {
                if vector_sum(rows, slot) != self.sums[node] {
                    return Err(format!("it was made of other vectors: row {row} differs"));
                }
                slots[node] = slot;
                alive += 1;
            }
        }
        // Rows up to the last one were all there when it was made, or never.
        let covered = (0..rows.len() as u32).take_while(|&slot| rows.row_number(slot) <= last).count();
        if covered != alive {
            return Err("it lacks rows of this store".into());
        }
        if alive == 0 {
            return Err("none of its rows is left".into());
        }
        Ok(if alive == self.rows.len() { self.graph } else { self.graph.without_dead(&slots, alive, rows) })
    }
}

impl Graph {
    /// The graph of the nodes that have a new slot; the others have [`END`]. Who linked to one that is gone may link to its
    /// neighbours instead.
    fn without_dead(&self, slots: &[u32], alive: usize, rows: &Rows) -> Self {
        let place = |node: u32| slots[node as usize];
        let mut graph = Self {
            nodes: alive,
            width: self.width,
            base: Block::filled(END, alive * self.width),
            upper: Vec::new(),
            entry: 0,
            sketches: None,
        };
        for node in (0..self.nodes as u32).filter(|&node| place(node) != END) {
            let mut candidates: Vec<u32> = Vec::new();
            let mut lost = false;
            for link in self.links_of(node) {
                match place(link) {
                    END => {
                        lost = true;
                        candidates.extend(self.links_of(link).map(place).filter(|&slot| slot != END));
                    }
                    slot => candidates.push(slot),
                }
            }
            candidates.sort_unstable();
            candidates.dedup();
            let list = graph.list_mut(place(node));
            if lost {
                prune::select(rows, place(node), &candidates, list);
            } else {
                let links = self.links_of(node).map(place);
                list.iter_mut().zip(links).for_each(|(to, link)| *to = link);
            }
        }
        let kept = |layer: &Layer| -> Vec<(u32, Vec<u32>)> {
            let nodes = layer.slots.iter().filter(|&&node| place(node) != END);
            nodes
                .map(|&node| {
                    let links = layer.links_of(node).iter().map(|&link| place(link));
                    (place(node), links.filter(|&slot| slot != END).collect())
                })
                .collect()
        };
        graph.upper = stack(self.upper.iter().map(kept).collect());
        reach::connect(&mut graph, rows);
        graph
    }
}
