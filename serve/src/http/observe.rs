//! Around every request: an id, a log line, metrics, a deadline, and the body of a problem.

use std::time::{Duration, Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::{Instrument, field::Empty};
use uuid::Uuid;

use super::{ApiError, AppState, Problem};
use crate::traces;

/// The header that carries a request's id, in and out.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from a client.
const REQUEST_ID_CHARACTERS_MAX: usize = 64;
/// The label `route` of requests that no route matches, so that scanners cannot make up label values.
const NO_ROUTE: &str = "unmatched";

/// The outermost middleware.
pub(super) async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
    let method = method_label(request.method());
    let id = request_id(&request);
    let span = tracing::info_span!(
        "request", id = %id, method, route = %route, caller = Empty, trace_id = Empty, otel.kind = Empty, otel.name = Empty
    );
    traces::began(&span, request.headers(), method, &route);
    let in_flight = state.metrics().in_flight();
    let answered = within(state.options().request_timeout, next.run(request)).instrument(span.clone()).await;
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if problem.status() == axum::http::StatusCode::TOO_MANY_REQUESTS {
            state.metrics().rejected(problem.code());
        }
        span.in_scope(|| tracing::debug!(code = problem.code(), detail = problem.detail(), "problem"));
        let kept = std::mem::take(response.headers_mut());
        response = problem.render(&id);
        // E.g. `allow` of a 405. The old content headers describe a body that is gone.
        for (name, value) in kept.iter().filter(|(name, _)| **name == axum::http::header::ALLOW) {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    drop(in_flight);
    let elapsed = start.elapsed();
    traces::ended(&span, response.status());
    let status = response.status().as_u16();
    state.metrics().answered(&route, method, status, elapsed);
    span.in_scope(|| log(&route, status, elapsed));
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Probes and scrapes come every few seconds and say nothing new.
fn log(route: &str, status: u16, elapsed: Duration) {
    let elapsed_ms = elapsed.as_secs_f64() * 1e3;
    if matches!(route, "/livez" | "/readyz" | "/metrics") {
        tracing::debug!(status, elapsed_ms, "answered");
    } else {
        tracing::info!(status, elapsed_ms, "answered");
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, ApiError> {
    tokio::time::timeout(limit, work).await.map_err(|_| ApiError::Deadline { seconds: limit.as_secs_f64() })
}

/// The client's own id if it is harmless in a log, else a new one.
fn request_id(request: &Request) -> String {
    request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=REQUEST_ID_CHARACTERS_MAX).contains(&id.len()))
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)))
        .map_or_else(|| Uuid::now_v7().to_string(), ToOwned::to_owned)
}

/// Clients can make up methods; labels are for those that mean something.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
