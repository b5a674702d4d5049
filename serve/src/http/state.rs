//! What the handlers share.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use dfml_index::VectorIndex;
use dfml_models::{DecodeLimits, Manifest, Transform};

use super::{
    ApiError, admission::Admission, categories::CategoryCache, cpu_pool::CpuPool, images::ImageFolder,
};
use crate::{
    engine::{Batcher, ProviderReport},
    metrics::{IndexFigures, Metrics},
};

/// Bounds and places of the HTTP server.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Folder that holds the catalogue's pictures; `None` shows none.
    pub images: Option<PathBuf>,
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Bounds on images, checked before memory is given to them.
    pub decode_limits: DecodeLimits,
    /// Longest time for a request, reading its body included.
    pub request_timeout: Duration,
    /// How long a stopping server waits for requests in flight.
    pub drain_timeout: Duration,
    /// Threads that decode images and search the index; at least 1.
    pub cpu_threads: usize,
    /// Most searches worked on at a time; one more is answered 429.
    pub searches_max: usize,
    /// Results per search where the request does not say.
    pub k_default: usize,
    /// Most results that a request may ask for, `offset` included.
    pub k_max: usize,
}

/// The server cannot be set up as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The image folder is not there or cannot be read.
    #[error("image folder {}: {source}", path.display())]
    Images {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The system refused the threads of the CPU pool.
    #[error("cannot start {threads} threads for decoding: {reason}")]
    Threads {
        /// How many.
        threads: usize,
        /// What the system said.
        reason: String,
    },
}

/// A model and the index of vectors that this very model made. The two are only ever exchanged together.
pub struct Backend {
    /// What the model is.
    pub manifest: Manifest,
    /// What it runs on.
    pub provider: ProviderReport,
    /// The model, behind its queue.
    pub batcher: Batcher,
    /// The catalogue's vectors.
    pub index: Arc<dyn VectorIndex>,
}

impl Backend {
    /// The transform that the model wants its images to go through.
    pub fn transform(&self) -> &Transform {
        &self.manifest.transform
    }
}

/// Shared state; cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    options: HttpOptions,
    metrics: Arc<Metrics>,
    backend: ArcSwapOption<Backend>,
    draining: AtomicBool,
    started: Instant,
    admission: Admission,
    cpu_pool: CpuPool,
    categories: CategoryCache,
    images: Option<ImageFolder>,
}

impl AppState {
    /// A server without a model: alive, but not ready until [`AppState::install`].
    ///
    /// # Errors
    /// [`StateError`] if the image folder cannot be read or threads cannot be started.
    pub fn new(options: HttpOptions, metrics: Arc<Metrics>) -> Result<Self, StateError> {
        let images = options
            .images
            .as_deref()
            .map(|path| {
                ImageFolder::open(path)
                    .map_err(|source| StateError::Images { path: path.to_path_buf(), source })
            })
            .transpose()?;
        let threads = options.cpu_threads.max(1);
        let cpu_pool = CpuPool::new(threads)
            .map_err(|error| StateError::Threads { threads, reason: error.to_string() })?;
        Ok(Self(Arc::new(Shared {
            admission: Admission::new(options.searches_max),
            options,
            metrics,
            backend: ArcSwapOption::empty(),
            draining: AtomicBool::new(false),
            started: Instant::now(),
            cpu_pool,
            categories: CategoryCache::default(),
            images,
        })))
    }

    /// Serves this model and index from now on; searches that have started finish on the previous ones.
    pub fn install(&self, backend: Backend) {
        self.metrics().set_model(&backend.manifest.name, &backend.manifest.fingerprint(), &backend.provider);
        self.0.backend.store(Some(Arc::new(backend)));
        self.0.categories.clear();
    }

    /// From now on `/readyz` says no, so that a load balancer sends no more requests; those that come are still answered.
    pub fn start_draining(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
    }

    /// The bounds in force.
    pub fn options(&self) -> &HttpOptions {
        &self.0.options
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The model and index that are served, or [`ApiError::NotReady`].
    pub(super) fn backend(&self) -> Result<Arc<Backend>, ApiError> {
        self.0.backend.load_full().ok_or(ApiError::NotReady)
    }

    pub(super) fn draining(&self) -> bool {
        self.0.draining.load(Ordering::SeqCst)
    }

    pub(super) fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    pub(super) fn admission(&self) -> &Admission {
        &self.0.admission
    }

    pub(super) fn cpu_pool(&self) -> &CpuPool {
        &self.0.cpu_pool
    }

    pub(super) fn category_cache(&self) -> &CategoryCache {
        &self.0.categories
    }

    pub(super) fn images(&self) -> Option<&ImageFolder> {
        self.0.images.as_ref()
    }

    /// Reads the figures that only matter at a scrape.
    pub(super) fn refresh_levels(&self) {
        if let Some(backend) = self.0.backend.load_full() {
            let info = backend.index.info();
            let figures = IndexFigures {
                items: info.items as u64,
                tombstones: info.tombstones as u64,
                generation: info.generation,
            };
            self.metrics().set_levels(backend.batcher.queue_depth(), figures);
        }
    }
}
