//! JSON bodies, bounded by what they become in memory: `{}` is two bytes on the way and hundreds as a search.

use axum::{body::Bytes, extract::Request};
use serde::de::DeserializeOwned;

use super::{
    ApiError, AppState,
    admission::{Admission, Intake, Place},
    extract,
};

/// What an element of a list or a member of an object takes, at most about.
const VALUE_BYTES: usize = 64;
/// What an object takes that becomes a structure with all its fields, at most about; a search has the most.
const OBJECT_BYTES: usize = 512;
/// A longer text is understood on the CPU pool: it keeps a thread busy for longer than the other clients of that thread should wait.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Largest body that only says what a job is to do.
const ORDER_BYTES_MAX: usize = 64 << 10;

impl Admission {
    /// Takes in a JSON body of at most [`super::HttpOptions::bulk_body_bytes_max`], and then a place.
    ///
    /// # Errors
    /// [`ApiError::Busy`], or what is wrong with the body.
    pub(super) async fn json<T: DeserializeOwned + Send + 'static>(
        &self,
        request: Request,
        state: &AppState,
    ) -> Result<(T, Place), ApiError> {
        let limit = state.options().bulk_body_bytes_max;
        extract::expect_json(&request)?;
        let (intake, request) = self.intake(request, limit)?;
        let (value, intake) = take_in(extract::read(request, limit).await?, intake, state).await?;
        Ok((value, intake.admit()?))
    }
}

/// Understands a body that has come in, with memory set aside for what it becomes.
pub(super) async fn take_in<T: DeserializeOwned + Send + 'static>(
    body: Bytes,
    intake: Intake,
    state: &AppState,
) -> Result<(T, Intake), ApiError> {
    let most = state.options().bodies_bytes_max;
    let is_short = body.len() <= INLINE_BYTES_MAX;
    let understand = move || {
        let weight = weight(&body);
        if weight > most {
            let reason = "the body has more values than this server has memory for".to_owned();
            return Err(ApiError::Unprocessable { code: "too_many_values", reason });
        }
        intake.set_aside(weight)?;
        Ok((extract::parse(&body)?, intake))
    };
    if is_short { understand() } else { state.cpu_pool().run(understand).await? }
}

/// A short JSON body that says what a job is to do. It needs no place: the work is done later.
///
/// # Errors
/// What is wrong with the body.
pub(super) async fn order<T: DeserializeOwned>(request: Request) -> Result<T, ApiError> {
    extract::expect_json(&request)?;
    extract::parse(&extract::read(request, ORDER_BYTES_MAX).await?)
}

/// What the values of a text take in memory beyond the text itself, estimated generously and without understanding it.
fn weight(text: &[u8]) -> usize {
    let (mut values, mut objects) = (0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in text {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            match byte {
                b'"' => in_string = true,
                b',' | b'[' => values += 1,
                b'{' => objects += 1,
                _ => {}
            }
        }
    }
    values.saturating_mul(VALUE_BYTES).saturating_add(objects.saturating_mul(OBJECT_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::SearchBody;

    #[test]
    fn a_text_weighs_by_its_values_and_not_by_what_stands_in_its_strings() {
        assert_eq!(weight(b"null"), 0);
        assert_eq!(weight(b"[1,2,3]"), 3 * VALUE_BYTES);
        assert_eq!(weight(br#"{"a":{},"b":"{[,\"{["}"#), 2 * OBJECT_BYTES + VALUE_BYTES);
        assert_eq!(weight(br#""\\",1"#), VALUE_BYTES, "a backslash that is escaped escapes nothing");
    }

    #[test]
    fn no_structure_of_a_list_is_larger_than_its_weight() {
        assert!(size_of::<SearchBody>() <= OBJECT_BYTES, "{}", size_of::<SearchBody>());
        assert!(size_of::<serde_json::Value>() <= VALUE_BYTES);
    }
}
