//! The index of this program, measured.

use std::{path::PathBuf, time::Instant};

use cpu_time::{ProcessTime, ThreadTime};
use dfml_index::{EmbeddedIndex, IndexError, Item, OpenOptions, SearchRequest, Tuning, VectorIndex};

use super::{Data, report::Contender};

/// Items that are written at a time.
const BATCH: usize = 4096;

/// An index of the data in a folder of its own.
pub struct Ours {
    folder: tempfile::TempDir,
    index: EmbeddedIndex,
    options: OpenOptions,
    figures: Contender,
}

/// What a pass over all queries took, and what it found.
pub(super) struct Pass {
    /// Processor time, in seconds.
    pub(super) cpu_seconds: f64,
    /// Numbers of vectors, `[queries, k]`.
    pub(super) found: Vec<i64>,
}

impl Ours {
    /// Stores the vectors and builds the graph (`graph`), or leaves searches exact.
    pub(super) fn build(data: &Data, links: usize, effort: usize, graph: bool) -> Result<Self, IndexError> {
        let io = |source| IndexError::Io { path: PathBuf::from("temporary folder"), source };
        let folder = tempfile::tempdir().map_err(io)?;
        let tuning = Tuning {
            exact_up_to: if graph { data.count().saturating_sub(1) } else { usize::MAX },
            links,
            build_effort: effort,
            build_threads: Some(1),
            recall_floor: None,
            probe_share: 0.0,
            ..Tuning::default()
        };
        // While it is filled no graph is wanted; then it is built once.
        let filling = Tuning { exact_up_to: usize::MAX, ..tuning.clone() };
        let options = OpenOptions { create: true, tuning, ..OpenOptions::new(data.dim, "benchmark") };
        let index = EmbeddedIndex::open(folder.path(), OpenOptions { tuning: filling, ..options.clone() })?;
        let mut number = 0;
        for vectors in data.vectors.chunks(BATCH * data.dim) {
            let items = vectors.chunks_exact(data.dim).map(|vector| {
                number += 1;
                Item {
                    id: number.to_string(),
                    product_id: number.to_string(),
                    vector: vector.to_vec(),
                    ..Item::default()
                }
            });
            index.upsert(items.collect())?;
        }
        drop(index);
        let (clock, cpu) = (Instant::now(), ProcessTime::now());
        let index = EmbeddedIndex::open(folder.path(), options.clone())?;
        if graph {
            // Opening has begun to build it in the background; what is asked for here waits for that, or is it.
            while index.info().graph.is_none() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        let (build_seconds, build_cpu_seconds) = (clock.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
        let figures = Contender {
            name: "dfml".into(),
            build_cpu_seconds: graph.then_some(build_cpu_seconds),
            build_seconds: graph.then_some(build_seconds),
            ..Contender::default()
        };
        Ok(Self { folder, index, options, figures })
    }

    /// Closes and opens the index again, and takes note of sizes.
    pub(super) fn reopen(self) -> Result<(Self, Contender), IndexError> {
        let Self { folder, index, options, mut figures } = self;
        drop(index);
        let clock = Instant::now();
        let index = EmbeddedIndex::open(folder.path(), options.clone())?;
        figures.load_seconds = Some(clock.elapsed().as_secs_f64());
        let info = index.info();
        figures.memory_bytes_per_vector = Some(info.memory_bytes as f64 / info.items.max(1) as f64);
        figures.disk_bytes_per_vector = Some(info.disk_bytes as f64 / info.items.max(1) as f64);
        Ok((Self { folder, index, options, figures: figures.clone() }, figures))
    }

    /// The index.
    pub(super) fn index(&self) -> &EmbeddedIndex {
        &self.index
    }

    fn request(data: &Data, query: usize, k: usize, effort: Option<usize>) -> SearchRequest {
        SearchRequest { k, exact: effort.is_none(), effort, ..SearchRequest::new(data.query(query).to_vec()) }
    }

    /// Every query once, `batch` at a time: nearest rows only, as the other libraries return them.
    pub(super) fn nearest(
        &self,
        data: &Data,
        k: usize,
        effort: Option<usize>,
        batch: usize,
    ) -> Result<Pass, IndexError> {
        let requests: Vec<SearchRequest> =
            (0..data.query_count()).map(|query| Self::request(data, query, k, effort)).collect();
        let mut found = Vec::with_capacity(data.query_count() * k);
        let cpu = ThreadTime::now();
        for some in requests.chunks(batch) {
            for nearest in self.index.nearest(some)? {
                let rows = nearest.iter().map(|nearest| nearest.row as i64);
                found.extend(rows.chain(std::iter::repeat(-1)).take(k));
            }
        }
        Ok(Pass { cpu_seconds: cpu.elapsed().as_secs_f64(), found })
    }

    /// Every query once, with ids and metadata of each hit out of the store; processor time in seconds.
    pub(super) fn full(&self, data: &Data, k: usize, effort: Option<usize>) -> Result<f64, IndexError> {
        let cpu = ThreadTime::now();
        for query in 0..data.query_count() {
            self.index.search(&Self::request(data, query, k, effort))?;
        }
        Ok(cpu.elapsed().as_secs_f64())
    }
}
