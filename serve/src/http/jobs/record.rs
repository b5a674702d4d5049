//! What is known about a job, in answers and on disk.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::import::ImportSpec;
use crate::{duplicates::DuplicatesSpec, http::models::ModelSpec};

/// Failures that are kept in words; all are counted.
const FAILURES_KEPT: usize = 100;

/// What a job is to do. Stored with it, so that it can be taken up again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum JobSpec {
    /// Take a list into the catalogue.
    Import(ImportSpec),
    /// Find clusters of near-identical items.
    Duplicates(DuplicatesSpec),
    /// Exchange the model.
    Model(ModelSpec),
}

impl JobSpec {
    fn kind(&self) -> JobKind {
        match self {
            Self::Import(_) => JobKind::Import,
            Self::Duplicates(_) => JobKind::Duplicates,
            Self::Model(_) => JobKind::Model,
        }
    }
}

/// The kinds of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum JobKind {
    /// Takes a list into the catalogue.
    Import,
    /// Finds clusters of near-identical items.
    Duplicates,
    /// Exchanges the model.
    Model,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum JobState {
    /// Waits for the one before it.
    Queued,
    /// Is at work.
    Running,
    /// Has done everything; parts that failed are counted.
    Done,
    /// Could not be done; `error` says why.
    Failed,
    /// Was cancelled; what was done by then is kept.
    Cancelled,
    /// Was cut short by the end of the server; can be resumed.
    Interrupted,
}

impl JobState {
    pub(super) fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(in crate::http) struct JobView {
    /// Its id.
    pub(in crate::http) id: String,
    /// What it does.
    kind: JobKind,
    /// Where it stands.
    pub(in crate::http) state: JobState,
    /// When it was asked for, in seconds since 1970.
    created_unix: u64,
    /// When it last began, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_unix: Option<u64>,
    /// When it ended, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_unix: Option<u64>,
    /// Parts that are done, failed ones included.
    pub(super) done: usize,
    /// Parts in all, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<usize>,
    /// Parts that failed.
    pub(super) failed: usize,
    /// The first failures in words, at most 100.
    failures: Vec<String>,
    /// Why the job as a whole failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What came out, once it is done. Only a job that is asked for alone shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    result: Option<Outcome>,
}

/// What came out of a job. It may be large, so that everybody who looks at the job shares it.
#[derive(Clone, Debug)]
pub(super) struct Outcome(Arc<Value>);

impl From<Value> for Outcome {
    fn from(value: Value) -> Self {
        Self(Arc::new(value))
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

/// A job on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) view: JobView,
    pub(super) spec: JobSpec,
}

impl JobView {
    pub(super) fn new(id: String, spec: &JobSpec) -> Self {
        Self::queued(id, spec.kind(), now())
    }

    /// The same without what came out.
    pub(super) fn brief(&self) -> Self {
        Self { result: None, ..self.clone() }
    }

    /// Back to how it was made, to be run once more.
    pub(super) fn queue_again(&mut self) {
        *self = Self::queued(std::mem::take(&mut self.id), self.kind, self.created_unix);
    }

    fn queued(id: String, kind: JobKind, created_unix: u64) -> Self {
        Self {
            id,
            kind,
            created_unix,
            state: JobState::Queued,
            started_unix: None,
            finished_unix: None,
            done: 0,
            total: None,
            failed: 0,
            failures: Vec::new(),
            error: None,
            result: None,
        }
    }

    pub(super) fn begin(&mut self) {
        self.state = JobState::Running;
        self.started_unix = Some(now());
    }

    pub(super) fn end(&mut self, state: JobState, error: Option<String>, result: Option<Outcome>) {
        self.state = state;
        self.finished_unix = Some(now());
        self.error = error;
        self.result = result;
    }

    /// Counts a part that failed. Returns whether it is kept in words.
    pub(super) fn fail_part(&mut self, what: String) -> bool {
        self.failed += 1;
        let is_kept = self.failures.len() < FAILURES_KEPT;
        if is_kept {
            self.failures.push(what);
        }
        is_kept
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
