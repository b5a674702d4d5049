//! The interface of an index.

use serde::{Deserialize, Serialize};

use crate::{Hit, IndexError, Item, SearchRequest};

/// A catalogue of embeddings that can be searched. All methods may be called from many threads at once.
pub trait VectorIndex: Send + Sync {
    /// Adds items, replacing those with the same id; of two items with one id the later wins. Returns after they are
    /// durable and searchable. All of them are written, or none.
    ///
    /// # Errors
    /// [`IndexError::InvalidItem`] names the first item that cannot be stored; otherwise the storage failed.
    fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError>;

    /// Deletes items by id; ids that are not there are passed over. Returns after that is durable, with the number of
    /// items deleted.
    ///
    /// # Errors
    /// The storage failed.
    fn delete(&self, ids: &[String]) -> Result<usize, IndexError>;

    /// The item with this id.
    ///
    /// # Errors
    /// The storage failed.
    fn get(&self, id: &str) -> Result<Option<Item>, IndexError>;

    /// Up to `limit` items in order of their ids, starting after the id `after` (from the first if `None`). Walks the whole
    /// catalogue page by page.
    ///
    /// # Errors
    /// The storage failed.
    fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, IndexError>;

    /// The best hits, best first.
    ///
    /// # Errors
    /// [`IndexError::InvalidRequest`] if the vector has the wrong length, is zero or is not finite; otherwise the storage failed.
    fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError>;

    /// Number of items.
    fn count(&self) -> usize;

    /// Waits until every write that was under way when it was called is durable and searchable.
    ///
    /// # Errors
    /// The storage failed.
    fn flush(&self) -> Result<(), IndexError>;

    /// Figures about the index.
    fn info(&self) -> IndexInfo;
}

/// Figures about an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexInfo {
    /// Items that can be found.
    pub items: usize,
    /// Products that they show.
    pub products: usize,
    /// Length of the vectors.
    pub dim: usize,
    /// The model that made the vectors.
    pub model_fingerprint: String,
    /// Deleted or replaced items that still take up memory.
    pub tombstones: usize,
    /// Counts rebuilds of what is held in memory.
    pub generation: u64,
    /// How a search without `exact` is answered now.
    pub mode: SearchMode,
    /// The inner loops in use, by instruction set.
    pub kernel: String,
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
