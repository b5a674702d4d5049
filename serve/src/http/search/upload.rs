//! Taking a search out of a request: a form, a picture as the body, or JSON.

use axum::{
    body::Bytes,
    extract::{
        FromRequest, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::StatusCode,
};

use super::{
    super::{ApiError, AppState, admission::Intake, error::shortened, extract, json},
    request::SearchBody,
};

const EXPECTED: &str = "multipart/form-data with a file field `image`, the image file itself as image/* or \
                        application/octet-stream, or application/json";
/// Longest parameter in a form field, in bytes: room for a filter.
const PARAMETER_BYTES_MAX: usize = 16 << 10;

/// A search as it was sent.
#[derive(Debug, Default)]
pub(in crate::http) struct Ask {
    /// The image file, where it was sent as such rather than in JSON.
    pub(super) file: Option<Bytes>,
    /// Everything else.
    pub(super) body: SearchBody,
}

impl Ask {
    /// Reads a request's query string and body; never more than [`crate::http::HttpOptions::body_bytes_max`] of the latter.
    pub(super) async fn read(
        request: Request,
        intake: Intake,
        state: &AppState,
    ) -> Result<(Self, Intake), ApiError> {
        let body_bytes_max = state.options().body_bytes_max;
        let query = request.uri().query().unwrap_or_default();
        let kind = kind(&request)?;
        if kind == Kind::Json {
            if !query.is_empty() {
                let reason = "with a JSON body, parameters go into the body, not into the address".to_owned();
                return Err(ApiError::Unprocessable { code: "parameters_twice", reason });
            }
            let text = extract::read(request, body_bytes_max).await?;
            let (body, intake) = json::take_in(text, intake, state).await?;
            return Ok((Self { file: None, body }, intake));
        }
        let mut body = SearchBody::default();
        body.set_query(query)?;
        let ask = match kind {
            Kind::Form => Self::read_form(request, body, body_bytes_max).await?,
            Kind::Image | Kind::Json => Self::read_raw(request, body, body_bytes_max).await?,
        };
        Ok((ask, intake))
    }

    async fn read_form(
        request: Request,
        mut body: SearchBody,
        body_bytes_max: usize,
    ) -> Result<Self, ApiError> {
        let mut form = Multipart::from_request(request, &())
            .await
            .map_err(|error| ApiError::Body { reason: error.to_string() })?;
        let unreadable = |error: MultipartError| broken(&error, body_bytes_max);
        let mut file = None;
        while let Some(field) = form.next_field().await.map_err(unreadable)? {
            match field.name() {
                Some("image") => file = Some(field.bytes().await.map_err(unreadable)?),
                Some(name) => {
                    let name = name.to_owned();
                    let value = text(field, body_bytes_max).await?;
                    body.set(&name, &value)?;
                }
                None => return Err(ApiError::Body { reason: "a form field has no name".to_owned() }),
            }
        }
        let file = file.filter(|image| !image.is_empty());
        if file.is_none() && !body.has_stored_example() {
            let hint = "send the picture as a file field of that name, or name a stored one by item_id or product_id";
            return Err(ApiError::MissingField { field: "image", hint });
        }
        Ok(Self { file, body })
    }

    async fn read_raw(request: Request, body: SearchBody, body_bytes_max: usize) -> Result<Self, ApiError> {
        let image = extract::read(request, body_bytes_max).await?;
        if image.is_empty() {
            return Err(ApiError::MissingField { field: "image", hint: "the request's body is empty" });
        }
        Ok(Self { file: Some(image), body })
    }
}

impl SearchBody {
    fn has_stored_example(&self) -> bool {
        self.item_id.is_some() || self.product_id.is_some() || !self.positive.is_empty()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Form,
    Image,
    Json,
}

fn kind(request: &Request) -> Result<Kind, ApiError> {
    let found = extract::content_type(request);
    let refused = || ApiError::ContentType { found: shortened(found), expected: EXPECTED };
    let parsed: mime::Mime = found.parse().map_err(|_| refused())?;
    match (parsed.type_(), parsed.subtype()) {
        (mime::MULTIPART, mime::FORM_DATA) => Ok(Kind::Form),
        (mime::APPLICATION, mime::JSON) => Ok(Kind::Json),
        (mime::IMAGE, _) | (mime::APPLICATION, mime::OCTET_STREAM) => Ok(Kind::Image),
        _ => Err(refused()),
    }
}

async fn text(mut field: Field<'_>, body_bytes_max: usize) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error, body_bytes_max))? {
        if bytes.len() + chunk.len() > PARAMETER_BYTES_MAX {
            let name = shortened(field.name().unwrap_or_default());
            return Err(ApiError::Body {
                reason: format!("form field {name:?} is longer than {PARAMETER_BYTES_MAX} bytes"),
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| ApiError::Body { reason: "a form field is not UTF-8".to_owned() })
}

fn broken(error: &MultipartError, body_bytes_max: usize) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge { limit: body_bytes_max },
        _ => match extract::broken(error, body_bytes_max) {
            ApiError::Body { .. } => ApiError::Body { reason: error.body_text() },
            other => other,
        },
    }
}
