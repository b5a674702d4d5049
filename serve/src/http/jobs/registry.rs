//! The jobs of a server: queue, run, keep, cancel, resume.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dfml_index::Lease;
use serde_json::Value;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::record::{JobSpec, JobState, JobView, Stored};
use crate::http::{ApiError, AppState, error::shortened};

/// Jobs that may wait.
const QUEUED_MAX: usize = 16;
/// Jobs that are remembered after they have ended.
const REMEMBERED: usize = 100;
/// Progress is written to disk this often.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// What a server takes before it begins a job, where others share the catalogue, and how often it tries.
const LEASE: &str = "jobs";
const LEASE_AGAIN: Duration = Duration::from_millis(500);

/// All jobs, oldest first: their ids begin with their time.
pub(in crate::http) struct Jobs {
    jobs: Mutex<BTreeMap<String, Arc<Job>>>,
    folder: Option<PathBuf>,
    turn: Arc<Semaphore>,
    stopping: AtomicBool,
}

/// One job, shared by the one who runs it and those who watch.
pub(in crate::http) struct Job {
    spec: JobSpec,
    inner: Mutex<Inner>,
    cancelled: AtomicBool,
    /// The right to do it while other servers do not.
    lease: Mutex<Option<Box<dyn Lease>>>,
    folder: Option<PathBuf>,
}

struct Inner {
    view: JobView,
    saved: Instant,
}

/// Does the work of a job.
pub(in crate::http) trait Runner: Send + 'static {
    /// Works until it is done or [`Job::is_cancelled`], on a thread that may block. Returns what is to be shown as the result.
    ///
    /// # Errors
    /// A sentence for the one who asked.
    fn run(self, state: &AppState, job: &Job) -> Result<Value, String>;
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
                        jobs.insert(view.id.clone(), Arc::new(Job::new(view, spec, Some(folder.clone()))));
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

    /// Queues a job. It runs on a thread of its own when those before it have ended.
    ///
    /// # Errors
    /// [`ApiError::Busy`] if too many wait.
    pub(in crate::http) fn submit(&self, state: &AppState, spec: JobSpec) -> Result<JobView, ApiError> {
        let mut jobs = self.lock();
        let waiting = jobs.values().filter(|job| !job.view().state.is_over()).count();
        if waiting >= QUEUED_MAX {
            return Err(ApiError::Busy { limit: QUEUED_MAX });
        }
        let id = Uuid::now_v7().to_string();
        let job = Arc::new(Job::new(JobView::new(id.clone(), &spec), spec, self.folder.clone()));
        jobs.insert(id, Arc::clone(&job));
        forget_oldest(&mut jobs);
        drop(jobs);
        job.save();
        self.start(state, Arc::clone(&job));
        Ok(job.view())
    }

    /// Queues a job again that was cancelled, interrupted or failed. What it had done is not done twice.
    ///
    /// # Errors
    /// [`ApiError::Missing`], or [`ApiError::Conflict`] if it is still at work or has done everything.
    pub(in crate::http) fn resume(&self, state: &AppState, id: &str) -> Result<JobView, ApiError> {
        let job = self.get(id)?;
        {
            let mut inner = job.lock();
            match inner.view.state {
                JobState::Queued | JobState::Running => return Err(conflict("the job is still at work")),
                JobState::Done => return Err(conflict("the job has done everything")),
                JobState::Failed | JobState::Cancelled | JobState::Interrupted => inner.view.queue_again(),
            }
        }
        job.cancelled.store(false, Ordering::SeqCst);
        job.save();
        self.start(state, Arc::clone(&job));
        Ok(job.view())
    }

    /// Asks a job to end. What it has done is kept.
    ///
    /// # Errors
    /// [`ApiError::Missing`], or [`ApiError::Conflict`] if it has ended already.
    pub(in crate::http) fn cancel(&self, id: &str) -> Result<JobView, ApiError> {
        let job = self.get(id)?;
        if job.view().state.is_over() {
            return Err(conflict("the job has ended already"));
        }
        job.cancelled.store(true, Ordering::SeqCst);
        Ok(job.view())
    }

    /// One job.
    ///
    /// # Errors
    /// [`ApiError::Missing`].
    pub(in crate::http) fn get(&self, id: &str) -> Result<Arc<Job>, ApiError> {
        self.lock().get(id).cloned().ok_or_else(|| ApiError::Missing { kind: "job", id: shortened(id) })
    }

    /// All jobs, newest first.
    pub(in crate::http) fn list(&self) -> Vec<JobView> {
        self.lock().values().rev().map(|job| job.view()).collect()
    }

    /// The server stops: the job at work is interrupted, and can be resumed after the next start.
    pub(in crate::http) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for job in self.lock().values() {
            job.cancelled.store(true, Ordering::SeqCst);
        }
    }

    fn start(&self, state: &AppState, job: Arc<Job>) {
        let (turn, state) = (Arc::clone(&self.turn), state.clone());
        tokio::spawn(async move {
            // The semaphore is never closed.
            let Ok(_turn) = turn.acquire_owned().await else { return };
            let running = tokio::task::spawn_blocking({
                let job = Arc::clone(&job);
                move || run(&state, &job)
            });
            if running.await.is_err() {
                job.end(
                    JobState::Failed,
                    Some("it failed; the server's log has the details".to_owned()),
                    None,
                );
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(state: &AppState, job: &Job) {
    let cut_short = || match state.jobs().stopping.load(Ordering::SeqCst) || job.has_lost_lease() {
        true => JobState::Interrupted,
        false => JobState::Cancelled,
    };
    wait_for_lease(state, job);
    if job.is_cancelled() {
        job.lease().take();
        return job.end(cut_short(), None, None);
    }
    job.lock().view.begin();
    job.save();
    let outcome = match job.spec.clone() {
        JobSpec::Import(spec) => spec.run(state, job),
        JobSpec::Duplicates(spec) => spec.run(state, job),
        JobSpec::Model(spec) => spec.run(state, job),
    };
    match outcome {
        // A runner that was told to stop may have been done all the same.
        Ok(result) if job.is_cancelled() && !job.is_complete() => job.end(cut_short(), None, Some(result)),
        Ok(result) => job.end(JobState::Done, None, Some(result)),
        Err(_) if job.is_cancelled() => job.end(cut_short(), None, None),
        Err(error) => {
            tracing::error!(job = %job.view().id, %error, "a job failed");
            job.end(JobState::Failed, Some(error), None);
        }
    }
    job.lease().take();
    state.category_cache().clear();
}

/// Waits until no other server that shares the catalogue is at a job, or this one is cancelled.
fn wait_for_lease(state: &AppState, job: &Job) {
    while !job.is_cancelled() {
        match state.backend().map(|backend| backend.index.lease(LEASE)) {
            Ok(Ok(Some(lease))) => {
                *job.lease() = Some(lease);
                return;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a job waits for its turn"),
            Err(_) => {}
        }
        thread::sleep(LEASE_AGAIN);
    }
}

fn forget_oldest(jobs: &mut BTreeMap<String, Arc<Job>>) {
    while jobs.len() > REMEMBERED {
        let Some(id) = jobs.iter().find(|(_, job)| job.view().state.is_over()).map(|(id, _)| id.clone())
        else {
            return;
        };
        if let Some(job) = jobs.remove(&id) {
            job.remove_record();
        }
    }
}

fn conflict(reason: &str) -> ApiError {
    ApiError::Conflict { reason: reason.to_owned() }
}

impl Job {
    fn new(view: JobView, spec: JobSpec, folder: Option<PathBuf>) -> Self {
        let inner = Mutex::new(Inner { view, saved: Instant::now() });
        Self { spec, inner, cancelled: AtomicBool::new(false), lease: Mutex::new(None), folder }
    }

    /// How it stands now.
    pub(in crate::http) fn view(&self) -> JobView {
        self.lock().view.clone()
    }

    /// Whether it should end.
    pub(in crate::http) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.has_lost_lease()
    }

    fn has_lost_lease(&self) -> bool {
        self.lease().as_ref().is_some_and(|lease| !lease.is_held())
    }

    fn lease(&self) -> MutexGuard<'_, Option<Box<dyn Lease>>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_complete(&self) -> bool {
        let inner = self.lock();
        inner.view.total.is_some_and(|total| inner.view.done >= total)
    }

    /// Sets how many parts there are, and that none is done.
    pub(in crate::http) fn begin(&self, total: usize) {
        let mut inner = self.lock();
        (inner.view.total, inner.view.done) = (Some(total), 0);
    }

    /// Counts parts as done.
    pub(in crate::http) fn step(&self, parts: usize) {
        let is_due = {
            let mut inner = self.lock();
            inner.view.done += parts;
            inner.saved.elapsed() >= SAVE_EVERY
        };
        if is_due {
            self.save();
        }
    }

    /// Notes that a part failed.
    pub(in crate::http) fn fail_part(&self, what: String) {
        self.lock().view.fail_part(what);
    }

    fn end(&self, state: JobState, error: Option<String>, result: Option<Value>) {
        self.lock().view.end(state, error, result);
        self.save();
    }

    fn save(&self) {
        let Some(folder) = &self.folder else { return };
        let stored = {
            let mut inner = self.lock();
            inner.saved = Instant::now();
            Stored { view: inner.view.clone(), spec: self.spec.clone() }
        };
        let path = folder.join(format!("{}.json", stored.view.id));
        let written = serde_json::to_vec_pretty(&stored).map_err(io::Error::from).and_then(|text| {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            io::Write::write_all(&mut file, &text)?;
            file.persist(&path).map(drop).map_err(|error| error.error)
        });
        if let Err(error) = written {
            tracing::warn!(file = %path.display(), %error, "a job's record cannot be written");
        }
    }

    fn remove_record(&self) {
        if let Some(folder) = &self.folder {
            // One that stays is forgotten again after the next start.
            let _ = fs_err::remove_file(folder.join(format!("{}.json", self.view().id)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
