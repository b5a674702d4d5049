//! The routes of `/v1/models`.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes full paths")]

use axum::{
    Json,
    extract::{Request, State},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ModelSpec, no_way_back};
use crate::http::{
    ApiError, AppState,
    extract::Parameters,
    jobs::{Accepted, JobSpec, JobView, inside},
    json,
};

/// The models of a server.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ModelList {
    /// The one that serves: its name and the beginning of its fingerprint.
    active: String,
    /// The one before it, which can be gone back to.
    previous: Option<String>,
    /// Directories that can be loaded.
    available: Vec<String>,
}

/// What going back may cost.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct RollBackQuery {
    /// Go back even if items that have changed since have no picture to embed again; they are lost, and counted.
    allow_missing: bool,
}

/// List models
#[utoipa::path(
    get, path = "/v1/models", tag = "models",
    responses((status = 200, description = "The models.", body = ModelList)),
)]
pub(in crate::http) async fn list_models(State(state): State<AppState>) -> Result<Json<ModelList>, ApiError> {
    let active = state.backend()?.label();
    let previous = state.previous().map(|before| before.label());
    let folder = state.options().models.as_ref().map(|host| host.models.clone());
    let listed =
        tokio::task::spawn_blocking(move || folder.map(|folder| directories(&folder)).unwrap_or_default())
            .await;
    let available = listed.map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(Json(ModelList { active, previous, available }))
}

/// Names of the model directories; none if the folder cannot be read.
fn directories(folder: &std::path::Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let is_model = |path: &std::path::Path| path.join(dfml_models::manifest::MANIFEST_FILE).is_file();
    let mut names: Vec<String> = entries
        .filter(|entry| is_model(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Load another model
///
/// As a job: the model is loaded beside the one that serves, the catalogue is embedded again out of its pictures, the queries decide,
/// and the two change places at once. Searches are answered all the time, and no change to the catalogue is lost: one that cannot be
/// carried over, such as an item without a picture, makes the job fail unless `allow_missing` lets it go.
#[utoipa::path(
    post, path = "/v1/models", tag = "models", request_body = ModelSpec,
    responses((status = 202, description = "The job; `location` is its address.", body = JobView)),
)]
pub(in crate::http) async fn load_model(
    State(state): State<AppState>,
    request: Request,
) -> Result<Accepted, ApiError> {
    state.backend()?;
    let spec: ModelSpec = json::order(request).await?;
    let folder = host(&state)?;
    let model = spec.model.clone();
    let checked = tokio::task::spawn_blocking(move || inside(&folder, &model)).await;
    checked
        .map_err(|error| ApiError::Internal(error.to_string()))?
        .map_err(|reason| ApiError::Unprocessable { code: "model_path", reason })?;
    let wrong = |reason: &str| ApiError::Unprocessable { code: "invalid_model", reason: reason.to_owned() };
    if spec.images_per_second.is_some_and(|pace| !(pace > 0.0 && pace.is_finite())) {
        return Err(wrong("images_per_second is above 0"));
    }
    if spec.min_recall_at_1.is_some_and(|least| !(0.0..=1.0).contains(&least)) {
        return Err(wrong("min_recall_at_1 is from 0 to 1"));
    }
    Accepted::submit(&state, JobSpec::Model(ModelSpec { back: false, ..spec })).await
}

/// Go back to the model before
///
/// With everything that has been changed in the catalogue since, as a job. If more has changed than the server remembers, there is no
/// going back.
#[utoipa::path(
    post, path = "/v1/models/rollback", tag = "models", params(RollBackQuery),
    responses((status = 202, description = "The job; `location` is its address.", body = JobView)),
)]
pub(in crate::http) async fn roll_back(
    State(state): State<AppState>,
    Parameters(RollBackQuery { allow_missing }): Parameters<RollBackQuery>,
) -> Result<Accepted, ApiError> {
    state.backend()?;
    host(&state)?;
    if state.previous().is_none() {
        return Err(ApiError::Conflict { reason: no_way_back(&state).to_owned() });
    }
    Accepted::submit(&state, JobSpec::Model(ModelSpec { back: true, allow_missing, ..ModelSpec::default() }))
        .await
}

fn host(state: &AppState) -> Result<std::path::PathBuf, ApiError> {
    let host = state.options().models.as_ref().ok_or(ApiError::SwitchedOff {
        what: "exchanging the model",
        how: "name a folder of models in server.models_dir",
    })?;
    Ok(host.models.clone())
}
