//! One job: how it stands, and what is asked of it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use dfml_index::Lease;
use serde_json::Value;

use super::{
    Failure,
    record::{JobSpec, JobState, JobView, Outcome, Stored},
};
use crate::http::{ApiError, durable};

/// Progress is written to disk this often.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// One job, shared by the one who runs it and those who watch.
pub(in crate::http) struct Job {
    id: String,
    spec: JobSpec,
    inner: Mutex<Inner>,
    /// Whether it should end. Changed only while `inner` is locked: a cancellation is for the run that it was answered in.
    cancelled: AtomicBool,
    /// The right to do it while other servers do not.
    lease: Mutex<Option<Box<dyn Lease>>>,
    /// The file in which it is remembered; `None` forgets it at the end of the server.
    record: Option<PathBuf>,
    /// Held while that is written, and taken before `inner`: an older state must not replace a newer one.
    writing: Mutex<()>,
}

struct Inner {
    view: JobView,
    saved: Instant,
}

impl Job {
    /// A job that is remembered in a folder.
    pub(super) fn new(view: JobView, spec: JobSpec, folder: Option<&Path>) -> Self {
        let id = view.id.clone();
        Self {
            record: folder.map(|folder| folder.join(format!("{id}.json"))),
            id,
            spec,
            inner: Mutex::new(Inner { view, saved: Instant::now() }),
            cancelled: AtomicBool::new(false),
            lease: Mutex::new(None),
            writing: Mutex::new(()),
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// What it is to do.
    pub(super) fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// How it stands now.
    pub(super) fn view(&self) -> JobView {
        self.lock().view.clone()
    }

    /// The same without what came out.
    pub(super) fn brief(&self) -> JobView {
        self.lock().view.brief()
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.lock().view.state.is_over()
    }

    /// Whether it should end.
    pub(in crate::http) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst) || self.has_lost_lease()
    }

    /// Whether all of its parts are done.
    pub(super) fn is_complete(&self) -> bool {
        let inner = self.lock();
        inner.view.total.is_some_and(|total| inner.view.done >= total)
    }

    /// Queues it again, as if nobody had cancelled it.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if it is still at work or has done everything.
    pub(super) fn queue_again(&self) -> Result<(), ApiError> {
        let mut inner = self.lock();
        match inner.view.state {
            JobState::Queued | JobState::Running => return Err(conflict("the job is still at work")),
            JobState::Done => return Err(conflict("the job has done everything")),
            JobState::Failed | JobState::Cancelled | JobState::Interrupted => inner.view.queue_again(),
        }
        self.cancelled.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if it has ended already.
    pub(super) fn cancel(&self) -> Result<JobView, ApiError> {
        let inner = self.lock();
        if inner.view.state.is_over() {
            return Err(conflict("the job has ended already"));
        }
        self.cancelled.store(true, Ordering::SeqCst);
        Ok(inner.view.brief())
    }

    /// Notes that it is at work.
    pub(super) fn start(&self) {
        self.lock().view.begin();
        self.save();
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

    /// Notes that nothing is left to do, whatever was expected.
    pub(in crate::http) fn complete(&self) {
        let mut inner = self.lock();
        inner.view.total = Some(inner.view.done);
    }

    /// Notes that a part failed, and why.
    pub(in crate::http) fn fail_part(&self, part: &str, why: &Failure) {
        let is_kept = self.lock().view.fail_part(format!("{part}: {}", why.told));
        // The log has no more of them than the job.
        if is_kept && let Some(detail) = &why.detail {
            tracing::warn!(job = %self.id, %part, error = %detail, "a part of a job failed");
        }
    }

    /// Notes how it ended.
    pub(super) fn end(&self, state: JobState, error: Option<String>, result: Option<Value>) {
        let _turn = self.turn();
        let mut view = self.view();
        view.end(state, error, result.map(Outcome::from));
        // First on disk: who sees that it has ended sees it after a crash, too.
        self.warn(self.write(view.clone()));
        self.lock().view = view;
    }

    /// Keeps the right to do it.
    pub(super) fn hold(&self, lease: Box<dyn Lease>) {
        *self.lease() = Some(lease);
    }

    /// Gives the right back.
    pub(super) fn release(&self) {
        self.lease().take();
    }

    /// Whether another server may be at a job by now.
    pub(super) fn has_lost_lease(&self) -> bool {
        self.lease().as_ref().is_some_and(|lease| !lease.is_held())
    }

    /// Writes down how it stands. When it returns, that survives a crash. On a thread that may block.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn write_down(&self) -> io::Result<()> {
        let _turn = self.turn();
        self.write(self.view())
    }

    /// As [`Job::write_down`], where nobody is told how it stands and the work goes on either way.
    fn save(&self) {
        self.warn(self.write_down());
    }

    fn write(&self, view: JobView) -> io::Result<()> {
        let Some(path) = &self.record else { return Ok(()) };
        self.lock().saved = Instant::now();
        durable::write(path, &serde_json::to_vec_pretty(&Stored { view, spec: self.spec.clone() })?)
    }

    fn warn(&self, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::warn!(job = %self.id, %error, "a job's record cannot be written");
        }
    }

    /// Forgets it on disk, too.
    pub(super) fn remove_record(&self) {
        if let Some(path) = &self.record {
            // One that stays is forgotten again after the next start.
            let _ = fs_err::remove_file(path);
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self) -> MutexGuard<'_, Option<Box<dyn Lease>>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn conflict(reason: &str) -> ApiError {
    ApiError::Conflict { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use serde_json::json;

    use super::*;
    use crate::duplicates::DuplicatesSpec;

    fn job(folder: Option<&Path>) -> Job {
        let spec = JobSpec::Duplicates(DuplicatesSpec::default());
        Job::new(JobView::new("1".to_owned(), &spec), spec, folder)
    }

    #[test]
    fn a_cancellation_that_was_answered_is_heeded_however_close_it_follows_a_resumption() {
        let job = job(None);
        for _ in 0..1000 {
            job.end(JobState::Cancelled, None, None);
            thread::scope(|scope| {
                scope.spawn(|| job.queue_again().expect("it has ended"));
                // Refused until it is queued again; the first one that is not refused has to count.
                scope.spawn(|| while job.cancel().is_err() {});
            });
            assert!(job.is_cancelled());
        }
        job.end(JobState::Cancelled, None, None);
        job.queue_again().expect("it has ended");
        assert!(!job.is_cancelled(), "it begins anew");
        assert!(matches!(job.queue_again(), Err(ApiError::Conflict { .. })));
        job.end(JobState::Done, None, None);
        assert!(matches!(job.cancel(), Err(ApiError::Conflict { .. })));
        assert!(matches!(job.queue_again(), Err(ApiError::Conflict { .. })));
    }

    #[test]
    fn what_came_out_is_shared_and_left_out_where_it_is_not_asked_for() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let job = job(Some(folder.path()));
        job.end(JobState::Done, None, Some(json!({ "clusters": [1, 2] })));
        let whole = serde_json::to_value(job.view()).expect("JSON");
        assert_eq!(whole["result"], json!({ "clusters": [1, 2] }));
        let brief = serde_json::to_value(job.brief()).expect("JSON");
        assert_eq!((brief.get("result"), &brief["state"]), (None, &json!("done")));
        let text = fs_err::read(folder.path().join("1.json")).expect("the record");
        let stored: Stored = serde_json::from_slice(&text).expect("a record");
        assert_eq!(serde_json::to_value(stored.view).expect("JSON"), whole, "the record has everything");
        job.remove_record();
        assert_eq!(fs_err::read_dir(folder.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_record_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert!(job(Some(&folder.path().join("nowhere"))).write_down().is_err());
        assert!(job(None).write_down().is_ok(), "it is not remembered at all");
    }
}
