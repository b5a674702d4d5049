//! The index inside this process: redb on disk, search in memory.

mod api;
mod batch;
mod maintenance;
mod probe;
mod recovery;
mod search;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use parking_lot::{Mutex, RwLock};

use crate::{
    IndexError, Tuning,
    memory::Memory,
    store::{SalvageReport, Store, StoreFacts},
};
use batch::Batcher;
use maintenance::Maintainer;
use probe::{Prober, Recall};
pub use search::Nearest;
use writer::Writer;

/// Longest vectors: a sum of that many products of bytes fits in 32 bits.
const DIM_MAX: usize = 32_768;

/// What store to open, and for which model.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenOptions {
    /// Length of the vectors, at least 1.
    pub dim: usize,
    /// Names the model that makes the vectors. A store of another model is refused.
    pub model_fingerprint: String,
    /// Make the store if it is not there.
    pub create: bool,
    /// How to search and when to rebuild.
    pub tuning: Tuning,
}

impl OpenOptions {
    /// An existing store of this model, with the usual tuning.
    pub fn new(dim: usize, model_fingerprint: impl Into<String>) -> Self {
        Self { dim, model_fingerprint: model_fingerprint.into(), create: false, tuning: Tuning::default() }
    }

    pub(crate) fn check(&self) -> Result<(), IndexError> {
        if self.dim == 0 || self.dim > DIM_MAX {
            let reason = format!("vectors of {} dimensions; an index holds 1 to {DIM_MAX}", self.dim);
            return Err(IndexError::InvalidRequest { reason });
        }
        self.tuning.check()
    }
}

impl From<StoreFacts> for OpenOptions {
    fn from(facts: StoreFacts) -> Self {
        Self::new(facts.dim, facts.model_fingerprint)
    }
}

/// A durable index in a folder, searched in memory. One process at a time may have it open.
pub struct EmbeddedIndex {
    // Dropped in this order: the writer finishes what is queued, then the others stop.
    writer: Writer,
    _maintainer: Maintainer,
    prober: Prober,
    shared: Arc<Shared>,
}

/// What readers, the writer and the maintainer share. Locks are taken in the order of the fields.
struct Shared {
    /// Held while a new generation is made.
    rebuilding: Mutex<()>,
    /// Held while store and memory may differ: from before a commit until memory has followed.
    writing: Mutex<()>,
    memory: RwLock<Memory>,
    store: Store,
    batcher: Batcher,
    recall: Recall,
    /// Set when the index closes; long work looks at it.
    closing: AtomicBool,
    folder: PathBuf,
    options: OpenOptions,
}

impl EmbeddedIndex {
    /// Opens the store in a folder and reads it into memory.
    ///
    /// # Errors
    /// [`IndexError::NotFound`] if there is none and `create` is false, [`IndexError::WrongModel`] and
    /// [`IndexError::WrongDim`] if it is another model's, [`IndexError::InUse`] if it is open elsewhere, [`IndexError::Damaged`] if its
    /// checksums do not hold; otherwise the storage failed.
    pub fn open(folder: impl AsRef<Path>, options: OpenOptions) -> Result<Self, IndexError> {
        options.check()?;
        let store = Store::open(folder.as_ref(), &options)?;
        let mut memory = Memory::load(&store, options.dim)?;
        maintenance::load_graph(folder.as_ref(), &mut memory, &options);
        tracing::debug!(store = %store.path().display(), items = memory.count(), "opened");
        let shared = Arc::new(Shared {
            rebuilding: Mutex::new(()),
            writing: Mutex::new(()),
            memory: RwLock::new(memory),
            store,
            batcher: Batcher::new(),
            recall: Recall::new(&options.tuning),
            closing: AtomicBool::new(false),
            folder: folder.as_ref().to_owned(),
            options,
        });
        let maintainer = Maintainer::start(&shared)?;
        let writer = Writer::start(Arc::clone(&shared), maintainer.bell())?;
        let prober = Prober::start(&shared)?;
        Ok(Self { writer, _maintainer: maintainer, prober, shared })
    }

    /// Returns when the search graph is there and up to date, building and saving it first where it is not: after a store has been
    /// filled, so that the next process to open it has it at once.
    pub fn settle(&self) {
        self.shared.rebuild_if_needed();
    }

    /// Gives the unused pages of a store that is not open back to the system. Returns its size before and after, in bytes.
    ///
    /// # Errors
    /// [`IndexError::NotFound`], [`IndexError::InUse`] and [`IndexError::Damaged`] as [`EmbeddedIndex::open`].
    pub fn shrink(folder: impl AsRef<Path>) -> Result<(u64, u64), IndexError> {
        Store::shrink(folder.as_ref())
    }

    /// Copies every item of a damaged store that can be read and proves whole into a new store in `target`. The damaged
    /// file is not touched.
    ///
    /// # Errors
    /// [`IndexError::Exists`] if there is a store in `target`, [`IndexError::Damaged`] if nothing at all can be read.
    pub fn salvage(damaged: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<SalvageReport, IndexError> {
        Store::salvage(damaged.as_ref(), target.as_ref())
    }
}
