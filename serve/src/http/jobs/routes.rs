//! `/v1/import` and `/v1/jobs`.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    JobView,
    import::{ImportSpec, inside},
    record::JobSpec,
};
use crate::http::{ApiError, AppState, extract::PathId, json};

/// The jobs that are known.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct JobList {
    /// Newest first, each without its result.
    jobs: Vec<JobView>,
}

/// A job that was accepted: 202, with its address.
pub(in crate::http) struct Accepted(pub(in crate::http) JobView);

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        let location = HeaderValue::from_str(&format!("/v1/jobs/{}", self.0.id));
        let mut response = (StatusCode::ACCEPTED, Json(self.0)).into_response();
        if let Ok(location) = location {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

impl Accepted {
    /// Queues the job.
    ///
    /// # Errors
    /// As [`super::Jobs::submit`].
    pub(in crate::http) async fn submit(state: &AppState, spec: JobSpec) -> Result<Self, ApiError> {
        Self::queue(state, |state| state.jobs().submit(state, spec)).await
    }

    /// Queues a job on a thread that may block, as its record is written before the answer, and to the end even if the client leaves
    /// meanwhile: a job whose record is there is run.
    async fn queue(
        state: &AppState,
        queue: impl FnOnce(&AppState) -> Result<JobView, ApiError> + Send + 'static,
    ) -> Result<Self, ApiError> {
        let state = state.clone();
        let queued = tokio::task::spawn_blocking(move || queue(&state)).await;
        queued.map_err(|error| ApiError::Internal(format!("queueing a job failed: {error}")))?.map(Self)
    }
}

/// Import a list
///
/// Takes a list of pictures in the server's import folder into the catalogue, as a job. Pictures that the catalogue has already are left
/// alone, so a job that was cancelled or interrupted goes on where it was when it is resumed.
#[utoipa::path(
    post, path = "/v1/import", tag = "jobs", request_body = ImportSpec,
    responses((status = 202, description = "The job; `location` is its address.", body = JobView)),
)]
pub(in crate::http) async fn import(
    State(state): State<AppState>,
    request: Request,
) -> Result<Accepted, ApiError> {
    state.backend()?;
    let folder = state
        .options()
        .import_dir
        .clone()
        .ok_or(ApiError::SwitchedOff { what: "importing", how: "name a folder in server.import_dir" })?;
    let spec: ImportSpec = json::order(request).await?;
    // What is plainly wrong is told at once rather than in the job.
    let list = spec.list.clone();
    let checked = tokio::task::spawn_blocking(move || {
        let path = inside(&folder, &list)?;
        if path.is_file() { Ok(()) } else { Err(format!("{list:?} is not a file")) }
    });
    let checked = checked.await;
    checked
        .map_err(|error| ApiError::Internal(error.to_string()))?
        .map_err(|reason| ApiError::Unprocessable { code: "import_path", reason })?;
    Accepted::submit(&state, JobSpec::Import(spec)).await
}

/// List jobs
///
/// Without what came out of them: that may be long, and is in the job that is asked for alone.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs",
    responses((status = 200, description = "The jobs that are known, newest first.", body = JobList)),
)]
pub(in crate::http) async fn list_jobs(State(state): State<AppState>) -> Json<JobList> {
    Json(JobList { jobs: state.jobs().list() })
}

/// One job
///
/// With what came out of it, once it is done.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses((status = 200, description = "The job.", body = JobView)),
)]
pub(in crate::http) async fn get_job(
    State(state): State<AppState>,
    PathId(id): PathId,
) -> Result<Json<JobView>, ApiError> {
    Ok(Json(state.jobs().view(&id)?))
}

/// Cancel a job
///
/// What it has done by then is kept.
#[utoipa::path(
    delete, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses((status = 200, description = "The job, which ends soon.", body = JobView)),
)]
pub(in crate::http) async fn cancel_job(
    State(state): State<AppState>,
    PathId(id): PathId,
) -> Result<Json<JobView>, ApiError> {
    Ok(Json(state.jobs().cancel(&id)?))
}

/// Resume a job
///
/// One that was cancelled, interrupted by the end of the server, or failed.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/resume", tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses((status = 202, description = "The job; `location` is its address.", body = JobView)),
)]
pub(in crate::http) async fn resume_job(
    State(state): State<AppState>,
    PathId(id): PathId,
) -> Result<Accepted, ApiError> {
    Accepted::queue(&state, move |state| state.jobs().resume(state, &id)).await
}
