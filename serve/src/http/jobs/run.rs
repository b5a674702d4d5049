//! Running a job to its end.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{
    Failure, Job,
    record::{JobSpec, JobState},
};
use crate::http::AppState;

/// What a server takes before it begins a job, where others share the catalogue, and how often it tries.
const LEASE: &str = "jobs";
const LEASE_AGAIN: Duration = Duration::from_millis(500);

/// Does the work of a job.
pub(in crate::http) trait Runner: Send + 'static {
    /// Works until it is done or [`Job::is_cancelled`], on a thread that may block. Returns what is to be shown as the result.
    ///
    /// # Errors
    /// Why it cannot be done.
    fn run(self, state: &AppState, job: &Job) -> Result<Value, Failure>;
}

/// Runs a job to its end, whatever that is.
pub(super) fn run(state: &AppState, job: &Job) {
    // After a panic the job must not seem to be at work for ever, nor keep other servers from theirs.
    if catch_unwind(AssertUnwindSafe(|| work(state, job))).is_err() {
        tracing::error!(job = job.id(), "a job panicked");
        job.end(JobState::Failed, Some("it failed; the server's log has the details".to_owned()), None);
    }
    job.release();
}

fn work(state: &AppState, job: &Job) {
    wait_for_lease(state, job);
    if is_unwanted(state, job) {
        return job.end(cut_short(state, job), None, None);
    }
    job.start();
    let outcome = match job.spec().clone() {
        JobSpec::Import(spec) => spec.run(state, job),
        JobSpec::Duplicates(spec) => spec.run(state, job),
        JobSpec::Model(spec) => spec.run(state, job),
    };
    match outcome {
        // A runner that was told to stop may have been done all the same.
        Ok(result) if job.is_cancelled() && !job.is_complete() => {
            job.end(cut_short(state, job), None, Some(result));
        }
        Ok(result) => job.end(JobState::Done, None, Some(result)),
        Err(_) if job.is_cancelled() => job.end(cut_short(state, job), None, None),
        Err(failure) => {
            tracing::error!(job = job.id(), error = failure.full(), "a job failed");
            job.end(JobState::Failed, Some(failure.told), None);
        }
    }
}

/// Whether it need not begin: it was cancelled while it waited, or queued when the server had begun to stop.
fn is_unwanted(state: &AppState, job: &Job) -> bool {
    job.is_cancelled() || state.jobs().are_stopping()
}

/// What has become of a job that was told to end.
fn cut_short(state: &AppState, job: &Job) -> JobState {
    if state.jobs().are_stopping() || job.has_lost_lease() {
        JobState::Interrupted
    } else {
        JobState::Cancelled
    }
}

/// Waits until no other server that shares the catalogue is at a job, or this one is not wanted any more.
fn wait_for_lease(state: &AppState, job: &Job) {
    while !is_unwanted(state, job) {
        match state.backend().map(|backend| backend.index.lease(LEASE)) {
            Ok(Ok(Some(lease))) => return job.hold(lease),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!(job = job.id(), %error, "a job waits for its turn"),
            Err(_) => {}
        }
        thread::sleep(LEASE_AGAIN);
    }
}
