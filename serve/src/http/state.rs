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

use super::{
    ApiError, Backend, HttpOptions,
    admission::{Admission, BodyMemory},
    catalogue::{Gate, Uploads},
    categories::CategoryCache,
    cpu_pool::CpuPool,
    fetch::Fetcher,
    images::ImageFolder,
    jobs::Jobs,
};
use crate::{
    access::RateLimits,
    metrics::{IndexFigures, Metrics},
};

/// How long it is taken as known whether the index can be reached.
const REACH_FRESH: Duration = Duration::from_secs(1);

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
    /// The folder of the jobs cannot be used.
    #[error("jobs folder: {0}")]
    Jobs(std::io::Error),
    /// The client that fetches pictures cannot be made.
    #[error("fetching pictures by address: {0}")]
    Fetch(reqwest::Error),
    /// The system refused the threads of the CPU pool.
    #[error("cannot start {threads} threads for decoding: {reason}")]
    Threads {
        /// How many.
        threads: usize,
        /// What the system said.
        reason: String,
    },
}

/// Shared state; cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    options: HttpOptions,
    metrics: Arc<Metrics>,
    backend: ArcSwapOption<Backend>,
    previous: ArcSwapOption<Backend>,
    gate: Gate,
    jobs: Jobs,
    draining: AtomicBool,
    /// Whether the index could be reached, and when that was.
    reached: tokio::sync::Mutex<Option<(Instant, bool)>>,
    started: Instant,
    admission: Admission,
    writes: Admission,
    cpu_pool: CpuPool,
    categories: CategoryCache,
    images: Option<ImageFolder>,
    uploads: Option<Uploads>,
    fetcher: Option<Fetcher>,
    rates: Option<RateLimits>,
}

impl AppState {
    /// A server without a model: alive, but not ready until [`AppState::install`].
    ///
    /// # Errors
    /// [`StateError`] if a folder cannot be used or threads cannot be started.
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
        let bodies = BodyMemory::new(options.bodies_bytes_max);
        Ok(Self(Arc::new(Shared {
            admission: Admission::new(options.searches_max, bodies.clone()),
            writes: Admission::new(options.writes_max, bodies.clone()),
            backend: ArcSwapOption::empty(),
            previous: ArcSwapOption::empty(),
            gate: Gate::default(),
            jobs: Jobs::open(options.jobs_dir.clone()).map_err(StateError::Jobs)?,
            draining: AtomicBool::new(false),
            reached: tokio::sync::Mutex::default(),
            started: Instant::now(),
            categories: CategoryCache::default(),
            uploads: options.images.clone().filter(|_| options.keep_uploads).map(Uploads::new),
            fetcher: Fetcher::new(&options.fetch, bodies).map_err(StateError::Fetch)?,
            rates: options.rate.map(RateLimits::new),
            options,
            metrics,
            cpu_pool,
            images,
        })))
    }

    /// Serves this model and index from now on; searches that have started finish on the previous ones.
    pub fn install(&self, backend: Backend) {
        self.exchange(Arc::new(backend));
        self.forget_previous();
    }

    /// As [`AppState::install`], and keeps the ones before for going back.
    pub(super) fn exchange(&self, next: Arc<Backend>) {
        self.metrics().set_model(&next.manifest.name, &next.manifest.fingerprint(), &next.provider);
        let before = self.0.backend.swap(Some(next));
        self.0.previous.store(before);
        self.0.categories.clear();
    }

    /// The model and index before the last exchange.
    pub(super) fn previous(&self) -> Option<Arc<Backend>> {
        self.0.previous.load_full()
    }

    pub(super) fn forget_previous(&self) {
        self.0.previous.store(None);
    }

    /// From now on `/readyz` says no, so that a load balancer sends no more requests; those that come are still answered.
    pub fn start_draining(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
        self.0.jobs.stop();
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

    pub(super) fn metrics_shared(&self) -> Arc<Metrics> {
        Arc::clone(&self.0.metrics)
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    pub(super) fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    pub(super) fn fetcher(&self) -> Option<&Fetcher> {
        self.0.fetcher.as_ref()
    }

    pub(super) fn rates(&self) -> Option<&RateLimits> {
        self.0.rates.as_ref()
    }

    pub(super) fn uploads(&self) -> Option<&Uploads> {
        self.0.uploads.as_ref()
    }

    /// Places for changes to the catalogue.
    pub(super) fn writes(&self) -> &Admission {
        &self.0.writes
    }

    pub(super) fn shows_pictures(&self) -> bool {
        self.0.images.is_some()
    }

    /// Refuses a request with no parts or too many.
    pub(super) fn check_batch(&self, name: &'static str, parts: usize) -> Result<(), ApiError> {
        let most = self.0.options.batch_max;
        if (1..=most).contains(&parts) {
            return Ok(());
        }
        let reason = format!("{parts} {name} in one request; from 1 to {most} are allowed");
        Err(ApiError::Unprocessable { code: "batch_size", reason })
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

    /// Asks the index something: on the CPU pool where it computes the answer, and on a thread of its own where it waits for
    /// another machine.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if it panicked.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        backend: &Backend,
        question: impl FnOnce(&dyn VectorIndex) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let index = Arc::clone(&backend.index);
        if !index.is_shared() {
            return self.cpu_pool().run(move || question(&*index)).await;
        }
        let span = tracing::Span::current();
        let answer = tokio::task::spawn_blocking(move || span.in_scope(|| question(&*index))).await;
        answer.map_err(|error| ApiError::Internal(format!("asking the index: {error}")))
    }

    /// Whether the index can be reached. Known from the last second, so that probes cost nothing.
    pub(super) async fn reach(&self, backend: &Backend) -> bool {
        let mut known = self.0.reached.lock().await;
        if let Some((when, reached)) = *known
            && when.elapsed() < REACH_FRESH
        {
            return reached;
        }
        // An index in this process knows at once; its answer need not wait for a place on the CPU pool.
        let checked = match backend.index.is_shared() {
            true => self.ask(backend, |index| index.check()).await,
            false => Ok(backend.index.check()),
        };
        let reached = match checked {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "not ready");
                false
            }
            Err(_) => false,
        };
        *known = Some((Instant::now(), reached));
        reached
    }

    /// Reads the figures that only matter at a scrape. Those of an index that cannot be reached stay as they were.
    pub(super) async fn refresh_levels(&self) {
        if let Some(backend) = self.0.backend.load_full() {
            let Ok(info) = super::stats::index_info(self, &backend).await else {
                return self.metrics().set_index_down();
            };
            let figures = IndexFigures {
                items: info.items as u64,
                tombstones: info.tombstones as u64,
                generation: info.generation,
                memory_bytes: info.memory_bytes,
                disk_bytes: info.disk_bytes,
                recall: super::stats::recall(&info),
            };
            self.metrics().set_levels(backend.batcher.queue_depth(), figures);
        }
    }
}
