//! Figures about an index.

use serde::{Deserialize, Serialize};

/// Figures about an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexInfo {
    /// Items that can be found.
    pub items: usize,
    /// Products that they show; `None` where counting them would take too long.
    #[serde(default)]
    pub products: Option<usize>,
    /// Length of the vectors.
    pub dim: usize,
    /// The model that made the vectors.
    pub model_fingerprint: String,
    /// Deleted or replaced items that still take up memory.
    pub tombstones: usize,
    /// Counts rebuilds of what is held in memory since the index was opened.
    pub generation: u64,
    /// How a search without `exact` is answered now.
    pub mode: SearchMode,
    /// The search graph, if there is one.
    #[serde(default)]
    pub graph: Option<GraphInfo>,
    /// Whether the next generation is being built.
    #[serde(default)]
    pub rebuilding: bool,
    /// The effort (`ef`) of graph searches that do not name their own.
    #[serde(default)]
    pub effort: usize,
    /// What a sample of graph searches found of the true nearest, lately; `None` before the first sample.
    #[serde(default)]
    pub recall: Option<RecallEstimate>,
    /// Memory for vectors, codes and graph, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Size of the store on disk, in bytes.
    #[serde(default)]
    pub disk_bytes: u64,
    /// The inner loops in use, by instruction set.
    pub kernel: String,
}

/// Figures about a search graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphInfo {
    /// Items in the graph, deleted ones included.
    pub items: usize,
    /// Newer items, which every search compares with one by one.
    pub fresh: usize,
    /// Layers, the lowest included.
    pub layers: usize,
}

/// Measured recall of graph searches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecallEstimate {
    /// Share of the true nearest that was found, 0..=1: the mean over the samples.
    pub recall: f64,
    /// Samples in the window.
    pub samples: usize,
    /// The floor that effort is steered by, 0..=1.
    pub floor: f64,
}

/// How searches are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchMode {
    /// Every item is compared: always complete.
    Exact,
    /// A graph is walked (HNSW): most of the nearest are found, without comparing every item.
    Graph,
}
