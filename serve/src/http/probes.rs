//! What operators and their machines ask: is it alive, is it ready, what is it, how is it doing.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, AppState};
use crate::engine::ProviderReport;

/// Is the process alive?
///
/// Says nothing of the model, so that a stuck model does not get the process killed.
#[utoipa::path(
    get, path = "/livez", tag = "server",
    responses((status = 200, description = "It is.", body = String, content_type = "text/plain; charset=utf-8")),
)]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Can it answer searches?
///
/// The model is warm, the index is loaded or its engine answers, and the server is not stopping.
#[utoipa::path(
    get, path = "/readyz", tag = "server",
    responses(
        (status = 200, description = "It can.", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 503, description = "It is loading or stopping, or cannot reach its catalogue.", body = String, content_type = "text/plain; charset=utf-8"),
    ),
)]
pub(super) async fn readyz(State(state): State<AppState>) -> Response {
    let not_ready = |why: &'static str| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    match (state.draining(), state.backend()) {
        (true, _) => not_ready("stopping\n"),
        (false, Err(_)) => not_ready("loading\n"),
        (false, Ok(backend)) => match state.reach(&backend).await {
            true => "ok\n".into_response(),
            false => not_ready("the engine that holds the catalogue does not answer\n"),
        },
    }
}

/// Metrics
///
/// In Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")),
)]
pub(super) async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    state.refresh_levels().await;
    let text = state.metrics().encode().map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// What the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    /// Always `dfml`.
    name: &'static str,
    /// Its version.
    version: &'static str,
    /// Seconds since its start.
    uptime_seconds: f64,
    /// The model that serves.
    model: ModelInfo,
    /// What the model runs on.
    #[schema(value_type = Object)]
    provider: ProviderReport,
    /// The index.
    #[schema(value_type = Object)]
    index: dfml_index::IndexInfo,
    /// What a request may ask for.
    limits: Limits,
    /// Whether the server shows the catalogue's pictures.
    pictures: bool,
}

/// The model that serves.
#[derive(Debug, Serialize, ToSchema)]
struct ModelInfo {
    /// Its name.
    name: String,
    /// Identifies the function from picture to embedding.
    fingerprint: String,
    /// Length of its embeddings.
    embedding_dim: usize,
    /// Height of its input, in pixels.
    image_height: u32,
    /// Width of its input, in pixels.
    image_width: u32,
    /// SHA-256 of the network.
    model_sha256: String,
    /// Whether results have a match probability.
    calibrated: bool,
}

/// What a request may ask for.
#[derive(Debug, Serialize, ToSchema)]
struct Limits {
    /// Largest body of a search, in bytes.
    body_bytes_max: usize,
    /// Largest body of a request with many pictures, in bytes.
    bulk_body_bytes_max: usize,
    /// Results of a search that does not say how many.
    k_default: usize,
    /// Most results, `offset` included.
    k_max: usize,
    /// Most parts of a request with many.
    batch_max: usize,
}

/// What the server is
///
/// Version, model, execution provider, index, limits.
#[utoipa::path(
    get, path = "/v1/info", tag = "server",
    responses((status = 200, description = "What the server is.", body = Info)),
)]
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
            calibrated: manifest.calibration.is_some(),
        },
        provider: backend.provider.clone(),
        index: super::stats::index_info(&state, &backend).await?,
        limits: Limits {
            body_bytes_max: options.body_bytes_max,
            bulk_body_bytes_max: options.bulk_body_bytes_max,
            k_default: options.k_default,
            k_max: options.k_max,
            batch_max: options.batch_max,
        },
        pictures: state.shows_pictures(),
    }))
}
