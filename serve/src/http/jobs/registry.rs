//! The jobs of a server: queue, keep, cancel, resume.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{
    Job,
    record::{JobSpec, JobState, JobView, Stored},
    run::run,
};
use crate::http::{ApiError, AppState, error::shortened};

/// Jobs that may wait.
const QUEUED_MAX: usize = 16;
/// Jobs that are remembered after they have ended.
const REMEMBERED: usize = 100;

/// All jobs, oldest first: their ids begin with their time.
pub(in crate::http) struct Jobs {
    jobs: Mutex<BTreeMap<String, Arc<Job>>>,
    folder: Option<PathBuf>,
    turn: Arc<Semaphore>,
    stopping: AtomicBool,
}

impl Jobs {
    /// The jobs that are stored in a folder; `None` keeps them in memory only.
    pub(in crate::http) fn open(folder: Option<PathBuf>) -> io::Result<Self> {
        let mut jobs = BTreeMap::new();
        if let Some(folder) = &folder {
            fs_err::create_dir_all(folder)?;
            for entry in fs_err::read_dir(folder)? {
                let path = entry?.path();
                if path.extension().is_none_or(|extension| extension != "json") {
                    continue;
                }
                match serde_json::from_slice::<Stored>(&fs_err::read(&path)?) {
                    Ok(Stored { mut view, spec }) => {
                        if !view.state.is_over() {
                            view.end(JobState::Interrupted, None, None);
                        }
                        jobs.insert(view.id.clone(), Arc::new(Job::new(view, spec, Some(folder.as_path()))));
                    }
                    // One of another version, or damaged: it only tells of the past.
                    Err(error) => {
                        tracing::warn!(file = %path.display(), %error, "a job's record cannot be read")
                    }
                }
            }
        }
        Ok(Self {
            jobs: Mutex::new(jobs),
            folder,
            turn: Arc::new(Semaphore::new(1)),
            stopping: AtomicBool::new(false),
        })
    }

    /// Queues a job, on a thread that may block. It runs on a thread of its own when those before it have ended.
    ///
    /// # Errors
    /// [`ApiError::Busy`] if too many wait, [`ApiError::Internal`] if it cannot be written down: a job that was accepted is not lost.
    pub(in crate::http) fn submit(&self, state: &AppState, spec: JobSpec) -> Result<JobView, ApiError> {
        let id = Uuid::now_v7().to_string();
        let job = Arc::new(Job::new(JobView::new(id.clone(), &spec), spec, self.folder.as_deref()));
        let forgotten = {
            let mut jobs = self.lock();
            let waiting = jobs.values().filter(|job| !job.is_over()).count();
            if waiting >= QUEUED_MAX {
                return Err(ApiError::Busy { limit: QUEUED_MAX });
            }
            jobs.insert(id.clone(), Arc::clone(&job));
            forget_oldest(&mut jobs)
        };
        forgotten.iter().for_each(|job| job.remove_record());
        if let Err(error) = job.write_down() {
            self.lock().remove(&id);
            return Err(not_written(&error));
        }
        self.start(state, Arc::clone(&job));
        Ok(job.brief())
    }

    /// Queues a job again that was cancelled, interrupted or failed, on a thread that may block. What it had done is not done twice.
    ///
    /// # Errors
    /// [`ApiError::Missing`], [`ApiError::Conflict`] if it is still at work or has done everything, or [`ApiError::Internal`] if that
    /// cannot be written down.
    pub(in crate::http) fn resume(&self, state: &AppState, id: &str) -> Result<JobView, ApiError> {
        let job = self.get(id)?;
        job.queue_again()?;
        if let Err(error) = job.write_down() {
            job.end(
                JobState::Failed,
                Some("it could not be written down that it was resumed".to_owned()),
                None,
            );
            return Err(not_written(&error));
        }
        self.start(state, Arc::clone(&job));
        Ok(job.brief())
    }

    /// Asks a job to end. What it has done is kept.
    ///
    /// # Errors
    /// [`ApiError::Missing`], or [`ApiError::Conflict`] if it has ended already.
    pub(in crate::http) fn cancel(&self, id: &str) -> Result<JobView, ApiError> {
        self.get(id)?.cancel()
    }

    /// How one job stands, with what came out of it.
    ///
    /// # Errors
    /// [`ApiError::Missing`].
    pub(in crate::http) fn view(&self, id: &str) -> Result<JobView, ApiError> {
        Ok(self.get(id)?.view())
    }

    /// All jobs, newest first, without what came out of them.
    pub(in crate::http) fn list(&self) -> Vec<JobView> {
        self.lock().values().rev().map(|job| job.brief()).collect()
    }

    /// The server stops: the job at work is interrupted, and can be resumed after the next start. One that is queued later is not begun.
    pub(in crate::http) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for job in self.lock().values() {
            // One that has ended needs no telling.
            let _ = job.cancel();
        }
    }

    /// Whether the server has begun to stop.
    pub(super) fn are_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn get(&self, id: &str) -> Result<Arc<Job>, ApiError> {
        self.lock().get(id).cloned().ok_or_else(|| ApiError::Missing { kind: "job", id: shortened(id) })
    }

    fn start(&self, state: &AppState, job: Arc<Job>) {
        let (turn, state) = (Arc::clone(&self.turn), state.clone());
        tokio::spawn(async move {
            // The semaphore is never closed.
            let Ok(_turn) = turn.acquire_owned().await else { return };
            // The job itself says how it ended.
            let _ = tokio::task::spawn_blocking(move || run(&state, &job)).await;
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out the oldest jobs that have ended, until few enough are left.
fn forget_oldest(jobs: &mut BTreeMap<String, Arc<Job>>) -> Vec<Arc<Job>> {
    let mut forgotten = Vec::new();
    while jobs.len() > REMEMBERED {
        let Some(id) = jobs.iter().find(|(_, job)| job.is_over()).map(|(id, _)| id.clone()) else { break };
        forgotten.extend(jobs.remove(&id));
    }
    forgotten
}

fn not_written(error: &io::Error) -> ApiError {
    ApiError::Internal(format!("a job's record cannot be written: {error}"))
}
