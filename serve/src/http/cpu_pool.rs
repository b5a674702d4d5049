//! Threads for work that keeps a core busy, apart from the threads that talk to clients.

use tokio::sync::oneshot;

use super::ApiError;

/// A fixed number of threads. How many jobs wait is bounded by [`super::admission::Admission`].
pub(super) struct CpuPool {
    threads: rayon::ThreadPool,
}

impl CpuPool {
    pub(super) fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("cpu-{index}"))
            // Without a handler rayon aborts the process. With it, the job's sender is dropped and its caller told.
            .panic_handler(|_| tracing::error!("a job on the CPU pool panicked"))
            .build()?;
        Ok(Self { threads })
    }

    /// Runs `job` on a thread of the pool. If the returned future is dropped before the job has started, the job is not
    /// run at all.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if the job panicked.
    pub(super) async fn run<T, F>(&self, job: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let span = tracing::Span::current();
        // First come, first served: with the default order of a work-stealing pool the newest would overtake the oldest.
        self.threads.spawn_fifo(move || {
            if !reply.is_closed() {
                // An error means that the caller has gone away meanwhile: nobody is left to tell.
                let _ = reply.send(span.in_scope(job));
            }
        });
        answer.await.map_err(|_| ApiError::Internal("a job on the CPU pool panicked".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn a_panicking_job_is_an_error_and_the_pool_lives_on() {
        let pool = CpuPool::new(1).expect("a thread");
        let panicked = pool.run(|| panic!("as a broken decoder might")).await;
        assert!(matches!(panicked, Err(ApiError::Internal(_))));
        assert_eq!(pool.run(|| 6 * 7).await.expect("still working"), 42);
    }

    #[tokio::test]
    async fn a_job_whose_caller_has_gone_is_not_run() {
        let pool = CpuPool::new(1).expect("a thread");
        let (release, gate) = mpsc::channel::<()>();
        let ran = Arc::new(AtomicBool::new(false));
        let blocking = pool.run(move || gate.recv());
        let mark = Arc::clone(&ran);
        let waiting = pool.run(move || mark.store(true, Ordering::SeqCst));
        let gone =
            tokio::time::timeout(Duration::from_millis(20), async { tokio::join!(blocking, waiting) }).await;
        assert!(gone.is_err(), "the first job waits for its gate");
        release.send(()).expect("the first job still waits");
        pool.run(|| ()).await.expect("the pool is idle again");
        assert!(!ran.load(Ordering::SeqCst), "the second job's caller had gone before it started");
    }
}
