//! What can go wrong in a request. [`super::Problem`] says what a client is told.

use dfml_models::DecodeError;

use crate::{access::Scope, engine::EngineError};

/// Why a request was not answered as asked. Each variant names the party at fault in its documentation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Client: the image cannot be decoded.
    #[error(transparent)]
    Image(#[from] DecodeError),
    /// Server or load: the model did not answer.
    #[error(transparent)]
    Engine(EngineError),
    /// Server: the index did not answer.
    #[error(transparent)]
    Index(#[from] dfml_index::IndexError),
    /// Client: a form field or parameter that is required is not there.
    #[error("the field `{field}` is missing: {hint}")]
    MissingField {
        /// The field's name.
        field: &'static str,
        /// How to send it.
        hint: &'static str,
    },
    /// Client: a parameter has a value that it cannot have.
    #[error("{name}={value:?}: {reason}")]
    InvalidParameter {
        /// The parameter's name.
        name: &'static str,
        /// What was sent, shortened.
        value: String,
        /// What is allowed.
        reason: String,
    },
    /// Client: a parameter or form field that does not exist, e.g. misspelt.
    #[error("there is no parameter {name:?}; known are {known}")]
    UnknownParameter {
        /// What was sent, shortened.
        name: String,
        /// The parameters that exist.
        known: &'static str,
    },
    /// Client: the body's content type is none of those that the route takes.
    #[error("content type {found:?} is not understood here; send {expected}")]
    ContentType {
        /// What was sent.
        found: String,
        /// What the route takes.
        expected: &'static str,
    },
    /// Client: the body is not what its content type says, or broke off.
    #[error("the request body cannot be read: {reason}")]
    Body {
        /// What the reader said.
        reason: String,
    },
    /// Client: the body is larger than the server takes.
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Client: nothing is at this address.
    #[error("there is nothing at {path}")]
    NotFound {
        /// The path asked for, shortened.
        path: String,
    },
    /// Client: the address exists, but not for this method.
    #[error("{method} is not possible at {path}")]
    Method {
        /// The method.
        method: String,
        /// The path, shortened.
        path: String,
    },
    /// Client: the body is not JSON at all.
    #[error("the body is not JSON: {reason}")]
    Json {
        /// What the reader said, with line and column.
        reason: String,
    },
    /// Client: the body is JSON, but not what the route takes.
    #[error("the body does not fit: {reason}")]
    Shape {
        /// What does not fit, with line and column.
        reason: String,
    },
    /// Client: the request is understood and cannot be done, e.g. two things that exclude each other.
    #[error("{reason}")]
    Unprocessable {
        /// Stable code of the problem.
        code: &'static str,
        /// What cannot be done, and what could.
        reason: String,
    },
    /// Client: there is no item, product, job or model of this name.
    #[error("there is no {kind} {id:?}")]
    Missing {
        /// What was looked for: `item`, `product`, `job` or `model`.
        kind: &'static str,
        /// Its id, shortened.
        id: String,
    },
    /// Client: what was asked for contradicts what is going on, e.g. cancelling a job that has ended.
    #[error("{reason}")]
    Conflict {
        /// What is in the way.
        reason: String,
    },
    /// Client: a valid API key is needed.
    #[error("{reason}")]
    Unauthorized {
        /// Whether there was a key at all.
        reason: &'static str,
    },
    /// Client: the key is valid, but not for this.
    #[error("the key {key:?} has the scope {has}; this needs {needs}")]
    Forbidden {
        /// The key's name.
        key: String,
        /// What it may do.
        has: Scope,
        /// What it would need.
        needs: Scope,
    },
    /// Operator: this is switched off on this server.
    #[error("{what} is switched off on this server: {how}")]
    SwitchedOff {
        /// What.
        what: &'static str,
        /// How to switch it on.
        how: &'static str,
    },
    /// Client: the server does not fetch from that address.
    #[error("{url}: {reason}")]
    UrlRefused {
        /// The address, shortened.
        url: String,
        /// Which rule forbids it.
        reason: String,
    },
    /// Client: the address did not give a picture in time.
    #[error("{url}: {reason}")]
    UrlFailed {
        /// The address, shortened.
        url: String,
        /// What happened.
        reason: String,
    },
    /// Client: the request was sent to a name that this server does not answer to. Keeps other sites' scripts out of a server
    /// that needs no keys.
    #[error("this server does not answer to the host name {host:?}")]
    Host {
        /// The name, shortened.
        host: String,
    },
    /// Client: a script of another site sent the request, to a server that needs no keys.
    #[error(
        "{origin} may not have this changed: its scripts are not this server's, nor listed in access.cors_origins"
    )]
    Origin {
        /// Where the script is from, shortened.
        origin: String,
    },
    /// Load: this caller asks more often than it may.
    #[error("{caller} asks too often; the next request is let through in {wait_seconds} s")]
    RateLimited {
        /// The key's name or the client's address.
        caller: String,
        /// Seconds to wait, at least 1.
        wait_seconds: u64,
    },
    /// Client: the item is not in the index, or has no picture.
    #[error("no picture for item {item:?}: {reason}")]
    NoPicture {
        /// The item's id, shortened.
        item: String,
        /// Why not.
        reason: &'static str,
    },
    /// Load: as many requests as the server takes at a time are being worked on.
    #[error("the server already works on {limit} requests; try again in a moment")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// Load: the bodies of the requests that are being worked on take as much memory as they may.
    #[error("the server holds as much of other requests as it has room for; try again in a moment")]
    BodiesFull,
    /// Server: the model or the index is still being loaded.
    #[error("the server is still loading its model and index")]
    NotReady,
    /// Load or server: the request took longer than it may.
    #[error("the request was not finished within {seconds} s")]
    Deadline {
        /// The limit, in seconds.
        seconds: f64,
    },
    /// One of several parts of a request, which are answered together.
    #[error("{part}: {source}")]
    Part {
        /// Which part.
        part: String,
        /// What is wrong with it.
        source: Box<ApiError>,
    },
    /// Server: a bug, such as a panic in a handler. The log has the details; the client does not get them.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Decode(decode) => Self::Image(decode),
            other => Self::Engine(other),
        }
    }
}

/// At most the first 80 characters of something a client sent, for messages.
pub(super) fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn shortening_keeps_short_text_and_cuts_between_characters() {
        assert_eq!(shortened("chair"), "chair");
        let long = "ü".repeat(100);
        assert_eq!(shortened(&long), format!("{}…", "ü".repeat(80)));
    }
}
