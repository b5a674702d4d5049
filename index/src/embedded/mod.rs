//! The index inside this process: redb on disk, exact search in memory.

mod check;
mod writer;

use std::{path::Path, sync::Arc};

use parking_lot::{Mutex, RwLock};

use crate::{
    Filter, Hit, IndexError, IndexInfo, Item, SearchMode, SearchRequest, VectorIndex, kernels,
    memory::{Memory, Scored},
    store::{Record, Store, Write},
};
use check::{check_items, unit_query};
use writer::Writer;

/// Longest vectors: a sum of that many products of bytes fits in 32 bits.
const DIM_MAX: usize = 32_768;

/// Times that a search is answered anew because one of its hits was deleted before it could be read.
const RETRIES: usize = 3;

/// What store to open, and for which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Length of the vectors, at least 1.
    pub dim: usize,
    /// Names the model that makes the vectors. A store of another model is refused.
    pub model_fingerprint: String,
    /// Make the store if it is not there.
    pub create: bool,
}

/// A durable index in a folder, searched in memory. One process at a time may have it open.
pub struct EmbeddedIndex {
    shared: Arc<Shared>,
    writer: Writer,
    options: OpenOptions,
}

/// What readers and the writer share.
struct Shared {
    store: Store,
    memory: RwLock<Memory>,
    /// Held while store and memory may differ: from before a commit until memory has followed.
    writing: Mutex<()>,
}

impl EmbeddedIndex {
    /// Opens the store in a folder and reads it into memory.
    ///
    /// # Errors
    /// [`IndexError::NotFound`] if there is none and `create` is false, [`IndexError::WrongModel`] and
    /// [`IndexError::WrongDim`] if it is another model's, [`IndexError::InUse`] if it is open elsewhere, [`IndexError::Damaged`] if its
    /// checksums do not hold; otherwise the storage failed.
    pub fn open(folder: impl AsRef<Path>, options: OpenOptions) -> Result<Self, IndexError> {
        if options.dim == 0 || options.dim > DIM_MAX {
            let reason = format!("vectors of {} dimensions; an index holds 1 to {DIM_MAX}", options.dim);
            return Err(IndexError::InvalidRequest { reason });
        }
        let store = Store::open(folder.as_ref(), &options)?;
        let memory = Memory::load(&store, options.dim)?;
        tracing::debug!(store = %store.path().display(), items = memory.count(), "opened");
        let shared = Arc::new(Shared { store, memory: RwLock::new(memory), writing: Mutex::new(()) });
        let writer = Writer::start(Arc::clone(&shared))?;
        Ok(Self { shared, writer, options })
    }

    fn ensure_columns(&self, filter: &Filter) -> Result<(), IndexError> {
        if self.shared.memory.read().missing_columns(filter).is_empty() {
            return Ok(());
        }
        // Nothing is written meanwhile, so that store and memory agree; searches go on.
        let _guard = self.shared.writing.lock();
        let built = {
            let memory = self.shared.memory.read();
            let missing = memory.missing_columns(filter);
            if missing.is_empty() {
                return Ok(());
            }
            memory.build_columns(&self.shared.store, missing)?
        };
        self.shared.memory.write().insert_columns(built);
        Ok(())
    }

    /// The best slots, with the records of those after the offset; `None` for records deleted in between.
    fn search_once(
        &self,
        query: &[f32],
        request: &SearchRequest,
    ) -> Result<Vec<(Scored, Option<Record>)>, IndexError> {
        let (found, rows) = {
            let memory = self.shared.memory.read();
            let mut found = memory.search(query, request);
            found.drain(..request.offset.min(found.len()));
            let rows = memory.row_numbers(&found);
            (found, rows)
        };
        let records = self.shared.store.records(&rows)?;
        Ok(found.into_iter().zip(records).collect())
    }
}

impl VectorIndex for EmbeddedIndex {
    fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError> {
        check_items(&items, self.options.dim)?;
        self.writer.write(Write::Upsert(items)).map(|_| ())
    }

    fn delete(&self, ids: &[String]) -> Result<usize, IndexError> {
        self.writer.write(Write::Delete(ids.to_vec()))
    }

    fn get(&self, id: &str) -> Result<Option<Item>, IndexError> {
        self.shared.store.get(id)
    }

    fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, IndexError> {
        self.shared.store.page(after, limit)
    }

    fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
        let query = unit_query(request, self.options.dim)?;
        if let Some(filter) = &request.filter {
            self.ensure_columns(filter)?;
        }
        let mut found = self.search_once(&query, request)?;
        for _ in 0..RETRIES {
            if found.iter().all(|(_, record)| record.is_some()) {
                break;
            }
            // A hit was deleted on disk before memory heard of it. Once the writer is done, memory has.
            drop(self.shared.writing.lock());
            found = self.search_once(&query, request)?;
        }
        Ok(found.into_iter().filter_map(|(scored, record)| Some(hit(scored, record?))).collect())
    }

    fn count(&self) -> usize {
        self.shared.memory.read().count()
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.writer.write(Write::Barrier).map(|_| ())
    }

    fn info(&self) -> IndexInfo {
        let memory = self.shared.memory.read();
        IndexInfo {
            items: memory.count(),
            products: memory.product_count(),
            dim: self.options.dim,
            model_fingerprint: self.options.model_fingerprint.clone(),
            tombstones: memory.tombstones(),
            generation: 0,
            mode: SearchMode::Exact,
            kernel: kernels::kernel_name().into(),
        }
    }
}

fn hit(scored: Scored, record: Record) -> Hit {
    let Record { id: item_id, product_id, metadata } = record;
    Hit { item_id, product_id, score: scored.score, metadata }
}
