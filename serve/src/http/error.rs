//! What can go wrong in a request. [`super::Problem`] says what a client is told.

use dfml_models::DecodeError;

use crate::engine::EngineError;

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
    /// Server: the model or the index is still being loaded.
    #[error("the server is still loading its model and index")]
    NotReady,
    /// Load or server: the request took longer than it may.
    #[error("the request was not finished within {seconds} s")]
    Deadline {
        /// The limit, in seconds.
        seconds: f64,
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
