//! Bodies and parameters that are read strictly, with problems that say what is wrong and where.

use std::error::Error;

use axum::{
    body::Bytes,
    extract::{FromRequestParts, Path, Request},
    http::{header, request::Parts},
};
use http_body_util::LengthLimitError;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{ApiError, admission::NoRoom, error::shortened};

/// Refuses a body that does not say that it is JSON. That keeps other sites' forms from being understood as one, too.
pub(super) fn expect_json(request: &Request) -> Result<(), ApiError> {
    let found = content_type(request);
    let is_json = found.parse::<mime::Mime>().is_ok_and(|kind| {
        kind.type_() == mime::APPLICATION
            && (kind.subtype() == mime::JSON || kind.suffix() == Some(mime::JSON))
    });
    if is_json {
        return Ok(());
    }
    Err(ApiError::ContentType { found: shortened(found), expected: "application/json" })
}

/// A JSON text as a value; says line and column of what does not fit.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let reason = shortened_reason(&error);
        // A number that is too large for its place counts as bad syntax with serde_json, and is JSON all the same.
        if error.is_data() || serde_json::from_slice::<IgnoredAny>(body).is_ok() {
            ApiError::Shape { reason }
        } else {
            ApiError::Json { reason }
        }
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
    announced_size(&request, limit)?;
    axum::body::to_bytes(request.into_body(), limit).await.map_err(|error| broken(&error, limit))
}

/// Why a body could not be read to its end.
pub(super) fn broken(error: &(dyn Error + 'static), limit: usize) -> ApiError {
    if has_cause::<LengthLimitError>(error) {
        ApiError::BodyTooLarge { limit }
    } else if has_cause::<NoRoom>(error) {
        ApiError::BodiesFull
    } else {
        ApiError::Body { reason: error.to_string() }
    }
}

/// Whether an error, or what has caused it, is of this type.
fn has_cause<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    error.is::<T>() || error.source().is_some_and(has_cause::<T>)
}

/// The size that a request announces, 0 if none. A client that announces too large a body is told before it has sent it; one that lies
/// is stopped while reading.
pub(super) fn announced_size(request: &Request, limit: usize) -> Result<usize, ApiError> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match announced.map_or(Ok(0), str::parse::<usize>) {
        Ok(length) if length <= limit => Ok(length),
        _ => Err(ApiError::BodyTooLarge { limit }),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_but_does_not_fit_is_told_apart_from_what_is_none() {
        let parse = |text: &str| parse::<Vec<f32>>(text.as_bytes());
        assert!(matches!(parse("[1, 2]"), Ok(numbers) if numbers == [1.0, 2.0]));
        for text in ["[1e300]", "{}", "[\"one\"]"] {
            assert!(matches!(parse(text), Err(ApiError::Shape { .. })), "{text}");
        }
        for text in ["", "[1", "[1, 2] 3", "nonsense"] {
            assert!(matches!(parse(text), Err(ApiError::Json { .. })), "{text}");
        }
    }
}
