//! Calls to the engine: from threads that know nothing of tasks, and again where one came to nothing.

use std::{
    future::Future,
    sync::{Arc, mpsc::sync_channel},
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable};
use dfml_index::IndexError;
use parking_lot::Mutex;
use qdrant_client::{Qdrant, QdrantError, qdrant::HealthCheckReply};
use tokio::runtime::{Builder, Handle, Runtime};
use tonic::Code;

use crate::options::QdrantOptions;

/// Threads that talk to the engine: they only wait.
const THREADS: usize = 2;
/// First pause before a call is tried again, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Times that something is read again: who asks waits for it.
const READS_AGAIN: usize = 2;
/// Longest time for [`Wire::check`].
const CHECK: Duration = Duration::from_secs(1);

/// Connections to the engine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Wire {
    client: Qdrant,
    place: Arc<str>,
    timeout: Duration,
    retry_for: Duration,
}

/// Runs calls for threads that wait. Dropping it never blocks, so that it may be dropped anywhere.
pub(crate) struct Threads(Option<Runtime>);

impl Threads {
    pub(crate) fn start(place: &str) -> Result<Self, IndexError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("qdrant")
            .enable_all()
            .build()
            .map_err(|source| IndexError::Io { path: place.into(), source })?;
        Ok(Self(Some(runtime)))
    }

    /// Waits for a call. Blocks the thread, whichever it is: a thread that runs tasks as well, without a panic.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, IndexError>> + Send + 'static,
    ) -> Result<T, IndexError> {
        let runtime = self.0.as_ref().ok_or(IndexError::Closed)?;
        let (done, outcome) = sync_channel(1);
        runtime.spawn(async move {
            // The one who asked waits for as long as this takes.
            let _ = done.send(call.await);
        });
        outcome.recv().map_err(|_| IndexError::Closed)?
    }
}

impl Threads {
    /// For what is begun where nobody waits.
    pub(crate) fn handle(&self) -> Result<Handle, IndexError> {
        self.0.as_ref().map(|runtime| runtime.handle().clone()).ok_or(IndexError::Closed)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How long a call is worth.
#[derive(Clone, Copy)]
enum Worth {
    /// Somebody waits for an answer that can be given up.
    Read,
    /// It may have been done in part, and must come to its end.
    Write,
}

impl Wire {
    pub(crate) fn new(options: &QdrantOptions) -> Result<Self, IndexError> {
        let place = options.place();
        let invalid = |reason: String| IndexError::InvalidRequest { reason: format!("{place}: {reason}") };
        options.check().map_err(invalid)?;
        let mut config = Qdrant::from_url(&options.url)
            .timeout(options.timeout())
            .connect_timeout(Duration::from_millis(options.connect_timeout_ms.max(1)))
            .keep_alive_while_idle()
            .skip_compatibility_check();
        config.pool_size = options.connections;
        config.api_key = options.key().map_err(invalid)?.map(|key| key.reveal().to_owned());
        let client = config.build().map_err(|error| invalid(shown(&error)))?;
        Ok(Self {
            client,
            place: place.as_str().into(),
            timeout: options.timeout(),
            retry_for: options.retry_for(),
        })
    }

    /// The engine's address and the collection, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Asks for something, at most for the time that an answer may take.
    pub(crate) async fn read<T, F, R>(&self, ask: F) -> Result<T, IndexError>
    where
        F: Fn(Qdrant) -> R,
        R: Future<Output = Result<T, QdrantError>>,
    {
        self.call(Worth::Read, ask).await
    }

    /// Changes something, again and again until it is done. What is sent must be the same each time, and doing it twice must be the
    /// same as once.
    pub(crate) async fn write<T, F, R>(&self, ask: F) -> Result<T, IndexError>
    where
        F: Fn(Qdrant) -> R,
        R: Future<Output = Result<T, QdrantError>>,
    {
        self.call(Worth::Write, ask).await
    }

    async fn call<T, F, R>(&self, worth: Worth, ask: F) -> Result<T, IndexError>
    where
        F: Fn(Qdrant) -> R,
        R: Future<Output = Result<T, QdrantError>>,
    {
        let (times, budget) = match worth {
            Worth::Read => (Some(READS_AGAIN), self.timeout),
            Worth::Write => (None, self.timeout + self.retry_for),
        };
        let pauses =
            ExponentialBuilder::default().with_min_delay(PAUSE).with_max_delay(PAUSE_MAX).with_jitter();
        let pauses = match times {
            Some(times) => pauses.with_max_times(times),
            None => pauses.without_max_times(),
        };
        let (start, last) = (Instant::now(), Mutex::new(None));
        let again = |error: &QdrantError| passes(error) && start.elapsed() < self.retry_for.max(PAUSE_MAX);
        let tried = (|| ask(self.client.clone())).retry(pauses).when(again).notify(|error, pause| {
            tracing::debug!(place = %self.place, error = %shown(error), ?pause, "trying again");
            *last.lock() = Some(shown(error));
        });
        match tokio::time::timeout(budget, tried).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if passes(&error) => Err(self.unavailable(shown(&error))),
            Ok(Err(error)) => {
                Err(IndexError::Refused { place: self.place.to_string(), detail: shown(&error) })
            }
            Err(_) => {
                let detail = last.lock().take();
                let silence = || format!("no answer within {:.1} s", budget.as_secs_f64());
                Err(self.unavailable(detail.unwrap_or_else(silence)))
            }
        }
    }

    fn unavailable(&self, detail: String) -> IndexError {
        IndexError::Unavailable { place: self.place.to_string(), detail }
    }

    /// Whether the engine answers now.
    pub(crate) async fn check(&self) -> Result<HealthCheckReply, IndexError> {
        match tokio::time::timeout(CHECK.min(self.timeout), self.client.health_check()).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.unavailable(shown(&error))),
            Err(_) => Err(self.unavailable(format!("no answer within {:.1} s", CHECK.as_secs_f64()))),
        }
    }
}

/// Whether the same call may succeed later. `Internal` is among them: it is what Qdrant answers where too few copies have a
/// write, some of which may have it.
fn passes(error: &QdrantError) -> bool {
    match error {
        QdrantError::ResponseError { status } => matches!(
            status.code(),
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Aborted
                | Code::Unknown
                | Code::Internal
                | Code::ResourceExhausted
        ),
        QdrantError::ResourceExhaustedError { .. } | QdrantError::Io(_) => true,
        _ => false,
    }
}

/// An error without the headers that came with it.
pub(crate) fn shown(error: &QdrantError) -> String {
    match error {
        QdrantError::ResponseError { status } | QdrantError::ResourceExhaustedError { status, .. } => {
            let message: String = status.message().chars().take(300).collect();
            format!("{}: {message}", status.code())
        }
        other => other.to_string(),
    }
}

/// Whether the engine says that there is no such collection.
pub(crate) fn is_absent(error: &QdrantError) -> bool {
    matches!(error, QdrantError::ResponseError { status } if status.code() == Code::NotFound)
}
