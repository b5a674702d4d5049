//! `POST /v1/duplicates`: clusters of near-identical items, as a job.

use axum::extract::{Request, State};
use serde_json::{Value, json};

use super::{
    ApiError, AppState, Backend,
    extract::JsonBody,
    jobs::{Accepted, Job, JobSpec, JobView, Runner},
};
use crate::duplicates::{self, DuplicatesSpec};

/// Clusters in a job's result; the command line writes all of them.
const CLUSTERS_MAX: usize = 1000;

/// Find duplicates
///
/// Clusters of near-identical items, as a job: the result is in the job once it is done.
#[utoipa::path(
    post, path = "/v1/duplicates", tag = "jobs", request_body = DuplicatesSpec,
    responses((status = 202, description = "The job; `location` is its address.", body = JobView)),
)]
pub(super) async fn find_duplicates(
    State(state): State<AppState>,
    request: Request,
) -> Result<Accepted, ApiError> {
    let backend = state.backend()?;
    let JsonBody(spec) = JsonBody::<DuplicatesSpec>::read(request, &state).await?;
    threshold(&backend, &spec)?;
    Accepted::submit(&state, JobSpec::Duplicates(spec))
}

/// The least similarity that is meant.
fn threshold(backend: &Backend, spec: &DuplicatesSpec) -> Result<f32, ApiError> {
    let refused = |code, reason: &str| Err(ApiError::Unprocessable { code, reason: reason.to_owned() });
    match (spec.threshold, spec.min_probability) {
        (Some(similarity), None) if (-1.0..=1.0).contains(&similarity) => Ok(similarity),
        (None, Some(least)) if (0.0..=1.0).contains(&least) => match &backend.manifest.calibration {
            Some(calibration) => match calibration.similarity(f64::from(least)) {
                Some(similarity) => Ok(similarity as f32),
                None => refused("unreachable_probability", "this model is never that certain"),
            },
            None => refused(
                "not_calibrated",
                "min_probability needs a calibrated model; `dfml calibrate` makes one",
            ),
        },
        (Some(_), Some(_)) | (None, None) => {
            refused("invalid_threshold", "give either threshold or min_probability")
        }
        _ => refused("invalid_threshold", "threshold is from -1 to 1, min_probability from 0 to 1"),
    }
}

impl Runner for DuplicatesSpec {
    fn run(self, state: &AppState, job: &Job) -> Result<Value, String> {
        let backend = state.backend().map_err(|error| error.to_string())?;
        let threshold = threshold(&backend, &self).map_err(|error| error.to_string())?;
        job.begin(backend.index.count().map_err(|error| error.to_string())?);
        let found = duplicates::find(&*backend.index, threshold, self.across_products, |items| {
            job.step(items);
            !job.is_cancelled()
        });
        let mut clusters = found.map_err(|error| error.to_string())?;
        let (count, items) =
            (clusters.len(), clusters.iter().map(|cluster| cluster.items.len()).sum::<usize>());
        clusters.truncate(CLUSTERS_MAX);
        Ok(json!({ "threshold": threshold, "clusters_found": count, "items": items, "clusters": clusters }))
    }
}
