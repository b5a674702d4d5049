//! Bodies and parameters that are read strictly, with problems that say what is wrong and where.

use axum::{
    body::Bytes,
    extract::{FromRequestParts, Path, Request},
    http::{header, request::Parts},
};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use super::{ApiError, AppState, error::shortened};

/// A JSON body. The content type must say so, which also keeps other sites' forms from being understood as one.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> JsonBody<T> {
    /// Reads it; never more than the largest body of a request with many pictures.
    pub(super) async fn read(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let found = content_type(&request);
        let is_json = found.parse::<mime::Mime>().is_ok_and(|kind| {
            kind.type_() == mime::APPLICATION
                && (kind.subtype() == mime::JSON || kind.suffix() == Some(mime::JSON))
        });
        if !is_json {
            return Err(ApiError::ContentType { found: shortened(found), expected: "application/json" });
        }
        parse(&read(request, state.options().bulk_body_bytes_max).await?).map(Self)
    }
}

/// A JSON text as a value; says line and column of what does not fit.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => ApiError::Shape { reason: shortened_reason(&error) },
        _ => ApiError::Json { reason: shortened_reason(&error) },
    })
}

/// Serde repeats unknown names and wrong values in full; a client may have made them megabytes long.
fn shortened_reason(error: &serde_json::Error) -> String {
    const CHARACTERS_MAX: usize = 400;
    let text = error.to_string();
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}… at line {} column {}", &text[..end], error.line(), error.column()),
        None => text,
    }
}

/// The header, or nothing.
pub(super) fn content_type(request: &Request) -> &str {
    request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A whole body of at most `limit` bytes. Too large a one is refused before it is sent if its size is announced, and while
/// it is read if not.
pub(super) async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    refuse_announced_size(&request, limit)?;
    axum::body::to_bytes(request.into_body(), limit).await.map_err(|error| {
        let inner = std::error::Error::source(&error);
        if inner.is_some_and(<dyn std::error::Error>::is::<LengthLimitError>) {
            ApiError::BodyTooLarge { limit }
        } else {
            ApiError::Body { reason: error.to_string() }
        }
    })
}

/// A client that announces too large a body is told before it has sent it. One that lies is stopped while reading.
pub(super) fn refuse_announced_size(request: &Request, limit: usize) -> Result<(), ApiError> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|length| length.parse::<u64>().ok());
    match announced {
        Some(length) if length > limit as u64 => Err(ApiError::BodyTooLarge { limit }),
        _ => Ok(()),
    }
}

/// Parameters of the query string; unknown ones are refused if the type says `deny_unknown_fields`.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let parsed = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        parsed.map(|query| Self(query.0)).map_err(|rejection| ApiError::InvalidParameter {
            name: "query string",
            value: shortened(parts.uri.query().unwrap_or_default()),
            reason: shortened(&rejection.body_text()),
        })
    }
}

/// The id in a path, percent-decoded.
pub(super) struct PathId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            // An address that is not UTF-8 names nothing.
            Err(_) => Err(ApiError::NotFound { path: shortened(parts.uri.path()) }),
        }
    }
}
