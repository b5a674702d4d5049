//! Taking the image and the parameters of a search out of a request.

use axum::{
    RequestExt,
    body::Bytes,
    extract::{
        FromRequest, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::{StatusCode, header},
};

use super::{ApiError, error::shortened, params::SearchParams};

const EXPECTED: &str = "multipart/form-data with a file field `image`, or the image file itself as image/* or application/octet-stream";
/// Longest parameter in a form field, in bytes.
const PARAMETER_BYTES_MAX: usize = 1024;

/// A search as it was sent.
pub(super) struct Upload {
    /// The image file.
    pub(super) image: Bytes,
    /// Everything else.
    pub(super) params: SearchParams,
}

impl Upload {
    /// Reads a request's query string and body; never more than `body_bytes_max` of the latter.
    pub(super) async fn read(request: Request, body_bytes_max: usize) -> Result<Self, ApiError> {
        let mut params = SearchParams::default();
        params.set_query(request.uri().query().unwrap_or_default())?;
        refuse_announced_size(&request, body_bytes_max)?;
        match content_type(&request)? {
            ContentType::Form => Self::read_form(request, params, body_bytes_max).await,
            ContentType::Image => Self::read_raw(request, params, body_bytes_max).await,
        }
    }

    async fn read_form(
        request: Request,
        mut params: SearchParams,
        body_bytes_max: usize,
    ) -> Result<Self, ApiError> {
        let mut form = Multipart::from_request(request, &())
            .await
            .map_err(|error| ApiError::Body { reason: error.to_string() })?;
        let unreadable = |error: MultipartError| broken(&error, body_bytes_max);
        let mut image = None;
        while let Some(field) = form.next_field().await.map_err(unreadable)? {
            match field.name() {
                Some("image") => image = Some(field.bytes().await.map_err(unreadable)?),
                Some(name) => {
                    let name = name.to_owned();
                    let value = text(field, body_bytes_max).await?;
                    params.set(&name, &value)?;
                }
                None => return Err(ApiError::Body { reason: "a form field has no name".to_owned() }),
            }
        }
        let image = image.filter(|image| !image.is_empty()).ok_or(ApiError::MissingField {
            field: "image",
            hint: "send the picture as a file field of that name",
        })?;
        Ok(Self { image, params })
    }

    async fn read_raw(
        request: Request,
        params: SearchParams,
        body_bytes_max: usize,
    ) -> Result<Self, ApiError> {
        let image = request.extract::<Bytes, _>().await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge { limit: body_bytes_max },
            _ => ApiError::Body { reason: rejection.body_text() },
        })?;
        if image.is_empty() {
            return Err(ApiError::MissingField { field: "image", hint: "the request's body is empty" });
        }
        Ok(Self { image, params })
    }
}

enum ContentType {
    Form,
    Image,
}

fn content_type(request: &Request) -> Result<ContentType, ApiError> {
    let found =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refused = || ApiError::ContentType { found: shortened(found), expected: EXPECTED };
    let parsed: mime::Mime = found.parse().map_err(|_| refused())?;
    match (parsed.type_(), parsed.subtype()) {
        (mime::MULTIPART, mime::FORM_DATA) => Ok(ContentType::Form),
        (mime::IMAGE, _) | (mime::APPLICATION, mime::OCTET_STREAM) => Ok(ContentType::Image),
        _ => Err(refused()),
    }
}

/// A client that announces too large a body is told before it has sent it. One that lies is stopped while reading.
fn refuse_announced_size(request: &Request, body_bytes_max: usize) -> Result<(), ApiError> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|length| length.parse::<u64>().ok());
    match announced {
        Some(length) if length > body_bytes_max as u64 => {
            Err(ApiError::BodyTooLarge { limit: body_bytes_max })
        }
        _ => Ok(()),
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
        _ => ApiError::Body { reason: error.body_text() },
    }
}
