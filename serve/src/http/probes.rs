//! What operators and their machines ask: is it alive, is it ready, what is it, how is it doing.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{ApiError, AppState};
use crate::engine::ProviderReport;

/// `GET /livez`: the process answers. Says nothing of the model, so that a stuck model does not get the process killed.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the model is warm, the index is loaded, and the server is not stopping.
pub(super) async fn readyz(State(state): State<AppState>) -> Response {
    match (state.draining(), state.backend()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response(),
        (false, Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "loading\n").into_response(),
        (false, Ok(_)) => "ok\n".into_response(),
    }
}

/// `GET /metrics`: Prometheus' text format.
pub(super) async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    state.refresh_levels();
    let text = state.metrics().encode().map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// The answer of `/v1/info`.
#[derive(Debug, Serialize)]
pub(super) struct Info {
    name: &'static str,
    version: &'static str,
    uptime_seconds: f64,
    model: ModelInfo,
    provider: ProviderReport,
    index: dfml_index::IndexInfo,
    limits: Limits,
    pictures: bool,
}

#[derive(Debug, Serialize)]
struct ModelInfo {
    name: String,
    fingerprint: String,
    embedding_dim: usize,
    image_height: u32,
    image_width: u32,
    model_sha256: String,
}

#[derive(Debug, Serialize)]
struct Limits {
    body_bytes_max: usize,
    k_default: usize,
    k_max: usize,
}

/// `GET /v1/info`.
pub(super) async fn info(State(state): State<AppState>) -> Result<Json<Info>, ApiError> {
    let backend = state.backend()?;
    let (manifest, options) = (&backend.manifest, state.options());
    Ok(Json(Info {
        name: "dfml",
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: state.uptime().as_secs_f64(),
        model: ModelInfo {
            name: manifest.name.clone(),
            fingerprint: manifest.fingerprint(),
            embedding_dim: manifest.embedding_dim,
            image_height: manifest.transform.crop_height,
            image_width: manifest.transform.crop_width,
            model_sha256: manifest.files.model.sha256.clone(),
        },
        provider: backend.provider.clone(),
        index: backend.index.info(),
        limits: Limits {
            body_bytes_max: options.body_bytes_max,
            k_default: options.k_default,
            k_max: options.k_max,
        },
        pictures: state.images().is_some(),
    }))
}
