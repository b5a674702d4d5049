//! Errors as clients see them: RFC 9457 `application/problem+json` with a stable `code`. The one place where errors become
//! statuses.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use dfml_index::IndexError;
use dfml_models::DecodeError;
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiError;
use crate::engine::EngineError;

/// Seconds after which a client that was refused for load should try again.
const RETRY_AFTER_SECONDS: u64 = 1;

/// What went wrong, as RFC 9457 has it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:dfml:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(examples("urn:dfml:problem:not_an_image"))]
    kind: String,
    /// The kind of problem in words; the same for every problem of this code.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened in this request, naming the thing.
    detail: String,
    /// Stable name of the kind of problem, for programs.
    code: &'static str,
    /// The request's id, as in the header `x-request-id` and the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// Seconds after which to try again, where that makes sense; the header `retry-after` says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
}

impl Problem {
    /// Stable name of the kind of problem.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What happened, naming the thing.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The problem of one part of a request, which has no status line of its own.
    pub(super) fn of_part(error: &ApiError) -> Self {
        error.log();
        Self::from(error)
    }

    /// The document as a response that carries the request's id.
    pub(super) fn render(mut self, request_id: &str) -> Response {
        self.request_id = Some(request_id.to_owned());
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<&ApiError> for Problem {
    fn from(error: &ApiError) -> Self {
        let (status, code, title) = classify(error);
        let inner = match error {
            ApiError::Part { source, .. } => source.as_ref(),
            alone => alone,
        };
        let detail = match inner {
            // What broke inside is for the log: it can name files and addresses that are nobody else's business.
            ApiError::Index(IndexError::Unavailable { .. }) => {
                "the engine that holds the catalogue does not answer; searching and writing go on by themselves when it does"
                    .to_owned()
            }
            ApiError::Internal(_) | ApiError::Index(_) if status.is_server_error() => {
                "the server failed; its log has the details".to_owned()
            }
            ApiError::Engine(inner) if status.is_server_error() => match inner {
                EngineError::Stopped => inner.to_string(),
                _ => "the model failed; the server's log has the details".to_owned(),
            },
            _ => error.to_string(),
        };
        let retry_after_seconds = match error {
            ApiError::RateLimited { wait_seconds, .. } => Some(*wait_seconds),
            _ => matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
                .then_some(RETRY_AFTER_SECONDS),
        };
        let kind = format!("urn:dfml:problem:{code}");
        Self { kind, title, status: status.as_u16(), detail, code, request_id: None, retry_after_seconds }
    }
}

/// Status, code and title of an error. A code, once published, keeps its meaning.
fn classify(error: &ApiError) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    match error {
        ApiError::Part { source, .. } => classify(source),
        ApiError::Image(decode) => classify_image(decode),
        ApiError::Engine(EngineError::Overloaded { .. }) | ApiError::Busy { .. } | ApiError::BodiesFull => {
            (S::TOO_MANY_REQUESTS, "overloaded", "The server has too much to do")
        }
        ApiError::Engine(EngineError::Stopped) => {
            (S::SERVICE_UNAVAILABLE, "stopping", "The server is stopping")
        }
        ApiError::Engine(_) => (S::INTERNAL_SERVER_ERROR, "inference_failed", "The model failed"),
        ApiError::Index(IndexError::InvalidItem { .. }) => {
            (S::UNPROCESSABLE_ENTITY, "invalid_item", "The item cannot be stored")
        }
        ApiError::Index(IndexError::NoSuchItem { .. }) => {
            (S::NOT_FOUND, "item_not_found", "There is no such item")
        }
        ApiError::Index(IndexError::NoSuchProduct { .. }) => {
            (S::NOT_FOUND, "product_not_found", "There is no such product")
        }
        ApiError::Index(IndexError::InvalidRequest { .. }) => {
            (S::UNPROCESSABLE_ENTITY, "invalid_search", "The search cannot be answered")
        }
        ApiError::Index(IndexError::Unavailable { .. }) => {
            (S::SERVICE_UNAVAILABLE, "index_unavailable", "The catalogue cannot be reached")
        }
        ApiError::Index(IndexError::Unsupported { .. }) => {
            (S::UNPROCESSABLE_ENTITY, "index_unsupported", "This kind of catalogue cannot do that")
        }
        ApiError::Index(_) => (S::INTERNAL_SERVER_ERROR, "index_failed", "The index failed"),
        ApiError::Internal(_) => (S::INTERNAL_SERVER_ERROR, "internal", "The server failed"),
        ApiError::MissingField { .. } => (S::BAD_REQUEST, "missing_field", "A field is missing"),
        ApiError::InvalidParameter { .. } => {
            (S::BAD_REQUEST, "invalid_parameter", "A parameter has a wrong value")
        }
        ApiError::UnknownParameter { .. } => {
            (S::BAD_REQUEST, "unknown_parameter", "A parameter does not exist")
        }
        ApiError::ContentType { .. } => {
            (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_type", "The content type is not understood here")
        }
        ApiError::Body { .. } => (S::BAD_REQUEST, "unreadable_body", "The request body cannot be read"),
        ApiError::BodyTooLarge { .. } => {
            (S::PAYLOAD_TOO_LARGE, "body_too_large", "The request body is too large")
        }
        ApiError::NotFound { .. } => (S::NOT_FOUND, "not_found", "There is nothing at this address"),
        ApiError::Method { .. } => {
            (S::METHOD_NOT_ALLOWED, "method_not_allowed", "The method is not possible here")
        }
        ApiError::Json { .. } => (S::BAD_REQUEST, "invalid_json", "The body is not JSON"),
        ApiError::Shape { .. } => (S::UNPROCESSABLE_ENTITY, "invalid_body", "The body does not fit"),
        ApiError::Unprocessable { code, .. } => {
            (S::UNPROCESSABLE_ENTITY, code, "The request cannot be carried out")
        }
        ApiError::Missing { kind, .. } => match *kind {
            "item" => (S::NOT_FOUND, "item_not_found", "There is no such item"),
            "product" => (S::NOT_FOUND, "product_not_found", "There is no such product"),
            "job" => (S::NOT_FOUND, "job_not_found", "There is no such job"),
            _ => (S::NOT_FOUND, "model_not_found", "There is no such model"),
        },
        ApiError::Conflict { .. } => (S::CONFLICT, "conflict", "Something else is going on"),
        ApiError::Unauthorized { .. } => (S::UNAUTHORIZED, "key_needed", "A valid API key is needed"),
        ApiError::Forbidden { .. } => (S::FORBIDDEN, "scope_missing", "The key may not do this"),
        ApiError::SwitchedOff { .. } => (S::FORBIDDEN, "switched_off", "This is switched off"),
        ApiError::UrlRefused { .. } => (S::FORBIDDEN, "url_refused", "The server does not fetch from there"),
        ApiError::UrlFailed { .. } => (S::UNPROCESSABLE_ENTITY, "url_failed", "The address gave no picture"),
        ApiError::Host { .. } => {
            (S::MISDIRECTED_REQUEST, "wrong_host", "The server does not answer to this name")
        }
        ApiError::Origin { .. } => (S::FORBIDDEN, "foreign_origin", "Another site's script may not do this"),
        ApiError::RateLimited { .. } => (S::TOO_MANY_REQUESTS, "rate_limited", "Asked too often"),
        ApiError::NoPicture { .. } => (S::NOT_FOUND, "no_picture", "There is no such picture"),
        ApiError::NotReady => (S::SERVICE_UNAVAILABLE, "not_ready", "The server is not ready yet"),
        ApiError::Deadline { .. } => {
            (S::SERVICE_UNAVAILABLE, "deadline_exceeded", "The request took too long")
        }
    }
}

/// Status, code and title of an image that cannot be decoded.
fn classify_image(error: &DecodeError) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    match error {
        DecodeError::NotAnImage => (S::UNSUPPORTED_MEDIA_TYPE, "not_an_image", "The file is not an image"),
        DecodeError::Unsupported { .. } => {
            (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_image", "The image format is not supported")
        }
        DecodeError::Truncated { .. } => (S::UNPROCESSABLE_ENTITY, "truncated_image", "The image is cut off"),
        DecodeError::TooManyBytes { .. } | DecodeError::TooManyPixels { .. } => {
            (S::PAYLOAD_TOO_LARGE, "image_too_large", "The image is too large")
        }
        // Damaged, or a way of failing that a later decoder adds: the image's fault either way.
        _ => (S::UNPROCESSABLE_ENTITY, "damaged_image", "The image is damaged"),
    }
}

impl ApiError {
    /// Writes what is the server's own fault to the log: clients are not told the details.
    fn log(&self) {
        let (status, code, _) = classify(self);
        if status.is_server_error() && !matches!(self, Self::NotReady | Self::Deadline { .. }) {
            tracing::error!(code, error = %self, "request failed");
        }
    }
}

impl IntoResponse for ApiError {
    /// A response without a body: `http::observe` writes it, as it knows the request's id.
    fn into_response(self) -> Response {
        self.log();
        let problem = Problem::from(&self);
        let mut response = problem.status().into_response();
        response.extensions_mut().insert(problem);
        response
    }
}
