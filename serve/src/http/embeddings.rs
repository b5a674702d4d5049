//! `POST /v1/embeddings`, in the shape that clients of OpenAI's API send and expect; also the forms for pictures that infinity, Jina
//! and vLLM added to it.

use axum::{
    Json,
    extract::{Request, State},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use dfml_models::CropBox;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ApiError, AppState, error::shortened, picture};

/// Pictures of one request that are worked on at the same time.
const CONCURRENCY: usize = 4;

/// Pictures to embed: `input`, or `messages` as vLLM takes them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EmbeddingsBody {
    /// The served model's name; any other is refused, so that vectors of two models are never mixed up by accident.
    model: Option<String>,
    /// One picture or several.
    input: Option<Input>,
    /// Chat messages whose `image_url` parts are the pictures.
    messages: Option<Vec<Message>>,
    /// How each embedding is written.
    #[serde(default)]
    encoding_format: EncodingFormat,
    /// Length of the embeddings: only the model's own is possible.
    #[schema(minimum = 1)]
    dimensions: Option<usize>,
    /// Only pictures are embedded here.
    #[expect(dead_code, reason = "read for its only allowed value")]
    modality: Option<Modality>,
    /// Accepted for compatibility, and not looked at.
    #[expect(dead_code, reason = "clients send it, and it must not be an unknown field")]
    user: Option<String>,
}

/// One picture or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum Input {
    /// One.
    One(Picture),
    /// Several.
    Many(Vec<Picture>),
}

/// A picture in one of the forms that clients send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum Picture {
    /// A data URI, bare base64, or, where the server allows it, an http or https address.
    Text(String),
    /// Jina's form.
    Image(ImagePart),
    /// OpenAI's form.
    ImageUrl(ImageUrlPart),
}

/// `{"image": "data:…"}`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ImagePart {
    /// A data URI, bare base64, or an address.
    #[schema(min_length = 1)]
    image: String,
}

/// `{"type": "image_url", "image_url": {"url": "data:…"}}`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ImageUrlPart {
    /// Only this type.
    #[expect(dead_code, reason = "read for its only allowed value")]
    #[serde(rename = "type")]
    kind: ImageUrlType,
    /// The picture.
    image_url: ImageUrl,
}

/// The only type of part that is embedded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ImageUrlType {
    /// A picture.
    ImageUrl,
}

/// A picture by address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ImageUrl {
    /// A data URI or an address.
    #[schema(min_length = 1)]
    url: String,
    /// Accepted for compatibility, and not looked at.
    #[expect(dead_code, reason = "clients send it, and it must not be an unknown field")]
    detail: Option<String>,
}

/// A chat message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Message {
    /// Not looked at.
    #[expect(dead_code, reason = "clients send it, and it must not be an unknown field")]
    role: String,
    /// Its pictures.
    content: Vec<ImageUrlPart>,
}

/// How an embedding is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EncodingFormat {
    /// A list of numbers.
    #[default]
    Float,
    /// The base64 of 32-bit little-endian floats.
    Base64,
}

/// What is embedded.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Modality {
    /// Pictures.
    Image,
}

/// The embeddings.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EmbeddingsResponse {
    /// Always `list`.
    object: &'static str,
    /// One for each picture, in their order.
    data: Vec<EmbeddingObject>,
    /// The model's name.
    model: String,
    /// For compatibility: pictures have no tokens.
    usage: Usage,
}

/// One embedding.
#[derive(Debug, Serialize, ToSchema)]
struct EmbeddingObject {
    /// Always `embedding`.
    object: &'static str,
    /// Position of its picture.
    index: usize,
    /// Unit length.
    embedding: Encoded,
}

/// An embedding as it was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Encoded {
    /// Numbers.
    Float(Vec<f32>),
    /// 32-bit little-endian floats.
    Base64(String),
}

/// Tokens, of which there are none.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Usage {
    /// Always 0.
    prompt_tokens: usize,
    /// Always 0.
    total_tokens: usize,
}

/// Embed pictures
///
/// In OpenAI's shape: `input` is a picture or a list of them, each a data URI or base64 (as infinity takes it), `{"image": …}` (Jina)
/// or `{"type": "image_url", …}`; or `messages` with `image_url` parts (vLLM).
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "search", request_body = EmbeddingsBody,
    responses((status = 200, description = "One embedding for each picture, in their order.", body = EmbeddingsResponse)),
)]
pub(super) async fn embeddings(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<EmbeddingsResponse>, ApiError> {
    let backend = state.backend()?;
    let (body, _place) = state.admission().json::<EmbeddingsBody>(request, &state).await?;
    let (manifest, label) = (&backend.manifest, backend.label());
    if let Some(asked) = body.model.filter(|asked| *asked != manifest.name && *asked != label) {
        return Err(ApiError::Missing { kind: "model", id: shortened(&asked) });
    }
    if let Some(asked) = body.dimensions.filter(|asked| *asked != manifest.embedding_dim) {
        let reason = format!("it must be {}, this model's", manifest.embedding_dim);
        return Err(ApiError::InvalidParameter { name: "dimensions", value: asked.to_string(), reason });
    }
    let pictures = pictures(body.input, body.messages)?;
    state.check_batch("pictures", pictures.len())?;
    let (state, backend) = (&state, &backend);
    let vectors = stream::iter(pictures.into_iter().enumerate()).map(|(index, text)| async move {
        let located = |error| ApiError::Part { part: format!("picture {index}"), source: Box::new(error) };
        let file = picture::from_text(state, &text).await.map_err(located)?;
        Ok::<_, ApiError>(picture::embed(state, backend, file, CropBox::WHOLE).await.map_err(located)?.vector)
    });
    let vectors: Vec<Vec<f32>> = vectors.buffered(CONCURRENCY).try_collect().await?;
    let data = vectors
        .into_iter()
        .enumerate()
        .map(|(index, vector)| EmbeddingObject {
            object: "embedding",
            index,
            embedding: encode(vector, body.encoding_format),
        })
        .collect();
    Ok(Json(EmbeddingsResponse {
        object: "list",
        data,
        model: manifest.name.clone(),
        usage: Usage::default(),
    }))
}

/// The pictures of either form.
fn pictures(input: Option<Input>, messages: Option<Vec<Message>>) -> Result<Vec<String>, ApiError> {
    let text = |picture| match picture {
        Picture::Text(text) | Picture::Image(ImagePart { image: text }) => text,
        Picture::ImageUrl(part) => part.image_url.url,
    };
    match (input, messages) {
        (Some(Input::One(picture)), None) => Ok(vec![text(picture)]),
        (Some(Input::Many(pictures)), None) => Ok(pictures.into_iter().map(text).collect()),
        (None, Some(messages)) => Ok(messages
            .into_iter()
            .flat_map(|message| message.content)
            .map(|part| part.image_url.url)
            .collect()),
        _ => Err(ApiError::MissingField { field: "input", hint: "give either input or messages" }),
    }
}

fn encode(vector: Vec<f32>, format: EncodingFormat) -> Encoded {
    match format {
        EncodingFormat::Float => Encoded::Float(vector),
        EncodingFormat::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            Encoded::Base64(BASE64_STANDARD.encode(bytes))
        }
    }
}
