//! A bounded queue before an engine: requests that wait at the same time are computed together.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Engine, EngineError};

/// Bounds of a [`Batcher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Most images computed in one run. At least 1. Several sessions on a processor take fewer, see [`Engine::batch`].
    pub max_batch: usize,
    /// How long the first request of a batch waits for company. Zero takes whatever is waiting already: on a CPU a batch
    /// computes hardly faster per image than a single one, so that waiting for company costs more than it brings.
    pub max_wait: Duration,
    /// Most requests that wait; one more is refused with [`EngineError::Overloaded`]. At least 1.
    pub queue_capacity: usize,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { max_batch: 8, max_wait: Duration::ZERO, queue_capacity: 128 }
    }
}

/// Is told what happens in a [`Batcher`], for metrics. Called from the computing threads: be quick.
pub trait BatchObserver: Send + Sync + 'static {
    /// A request was taken off the queue for computing after `waited`.
    fn dequeued(&self, waited: Duration) {
        let _ = waited;
    }

    /// A run over `size` images took `compute`.
    fn computed(&self, size: usize, compute: Duration) {
        let _ = (size, compute);
    }

    /// A request was dropped unseen, because its caller had gone away.
    fn abandoned(&self) {}
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl BatchObserver for Unobserved {}

struct Request {
    pixels: Vec<f32>,
    queued_at: Instant,
    reply: oneshot::Sender<Result<Vec<f32>, EngineError>>,
}

/// Takes requests one at a time and computes them in batches, on one thread per session of the engine.
///
/// Dropping it refuses new requests, finishes the ones that wait, and joins the threads.
pub struct Batcher {
    queue: Option<SyncSender<Request>>,
    waiting: Arc<AtomicUsize>,
    options: BatchOptions,
    engine: Arc<Engine>,
    workers: Vec<JoinHandle<()>>,
}

impl Batcher {
    /// Starts the computing threads.
    ///
    /// # Errors
    /// [`EngineError::Inference`] if the system refuses a thread.
    pub fn start(
        engine: Arc<Engine>,
        options: BatchOptions,
        observer: Arc<dyn BatchObserver>,
    ) -> Result<Self, EngineError> {
        let options = BatchOptions {
            max_batch: options.max_batch.max(1),
            queue_capacity: options.queue_capacity.max(1),
            ..options
        };
        // Where several sessions share the requests, one that takes more than it computes at full speed leaves others with none.
        let most = if engine.sessions() > 1 { engine.batch() } else { usize::MAX };
        let options = BatchOptions { max_batch: options.max_batch.min(most), ..options };
        let (queue, requests) = sync_channel(options.queue_capacity);
        let waiting = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(requests));
        let workers = (0..engine.sessions())
            .map(|index| {
                let worker = Worker {
                    engine: Arc::clone(&engine),
                    requests: Arc::clone(&requests),
                    waiting: Arc::clone(&waiting),
                    observer: Arc::clone(&observer),
                    options,
                };
                thread::Builder::new().name(format!("embed-{index}")).spawn(move || worker.run())
            })
            .collect::<Result<_, _>>()
            .map_err(|error| EngineError::Inference { reason: format!("cannot start a thread: {error}") })?;
        Ok(Self { queue: Some(queue), waiting, options, engine, workers })
    }

    /// Embeds one image; `pixels` is `[3, height, width]`, normalised.
    ///
    /// Dropping the returned future takes the request back: if it has not been started, it is not computed.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] at once if the queue is full, [`EngineError::PixelCount`], [`EngineError::Inference`],
    /// [`EngineError::Stopped`].
    pub async fn embed(&self, pixels: Vec<f32>) -> Result<Vec<f32>, EngineError> {
        let expected = self.engine.pixels_per_image();
        if pixels.len() != expected {
            return Err(EngineError::PixelCount { images: 1, expected, found: pixels.len() });
        }
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(EngineError::Stopped)?;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if let Err(refused) = queue.try_send(Request { pixels, queued_at: Instant::now(), reply }) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(match refused {
                TrySendError::Full(_) => EngineError::Overloaded { capacity: self.options.queue_capacity },
                TrySendError::Disconnected(_) => EngineError::Stopped,
            });
        }
        answer.await.unwrap_or(Err(EngineError::Stopped))
    }

    /// Requests that wait right now.
    pub fn queue_depth(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The bounds in force.
    pub fn options(&self) -> &BatchOptions {
        &self.options
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.queue = None;
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("an embedding thread panicked");
            }
        }
    }
}

struct Worker {
    engine: Arc<Engine>,
    requests: Arc<Mutex<Receiver<Request>>>,
    waiting: Arc<AtomicUsize>,
    observer: Arc<dyn BatchObserver>,
    options: BatchOptions,
}

impl Worker {
    fn run(self) {
        let mut pixels = Vec::new();
        while let Some(batch) = self.collect() {
            // Some may have gone away while the batch waited for company.
            let batch: Vec<_> = batch.into_iter().filter_map(|request| self.unless_gone(request)).collect();
            if !batch.is_empty() {
                self.compute(batch, &mut pixels);
            }
        }
    }

    /// The next batch; `None` when the batcher has been dropped and the queue is empty.
    fn collect(&self) -> Option<Vec<Request>> {
        // Held while collecting, so that one worker fills its batch before the next one starts its own.
        let requests = self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut batch = Vec::with_capacity(self.options.max_batch);
        // Requests whose callers have gone away take no place.
        while batch.is_empty() {
            batch.extend(self.wanted(requests.recv().ok()?));
        }
        let deadline = Instant::now() + self.options.max_wait;
        while batch.len() < self.options.max_batch {
            match requests.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(request) => batch.extend(self.wanted(request)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        Some(batch)
    }

    /// A request off the queue, unless its caller has gone away while it waited.
    fn wanted(&self, request: Request) -> Option<Request> {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.observer.dequeued(request.queued_at.elapsed());
        self.unless_gone(request)
    }

    fn unless_gone(&self, request: Request) -> Option<Request> {
        if request.reply.is_closed() {
            self.observer.abandoned();
            return None;
        }
        Some(request)
    }

    fn compute(&self, batch: Vec<Request>, pixels: &mut Vec<f32>) {
        let start = Instant::now();
        let result = match batch.as_slice() {
            [one] => self.engine.embed_pixels(&one.pixels, 1),
            many => {
                pixels.clear();
                many.iter().for_each(|request| pixels.extend_from_slice(&request.pixels));
                self.engine.embed_pixels(pixels, many.len())
            }
        };
        self.observer.computed(batch.len(), start.elapsed());
        match result {
            Ok(vectors) => {
                for (request, vector) in batch.into_iter().zip(vectors) {
                    // An error means that the caller has gone away: nobody is left to tell.
                    let _ = request.reply.send(Ok(vector));
                }
            }
            Err(error) => {
                tracing::error!(%error, images = batch.len(), "a batch could not be computed");
                for request in batch {
                    let _ = request.reply.send(Err(EngineError::Inference { reason: error.to_string() }));
                }
            }
        }
    }
}
