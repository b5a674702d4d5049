//! Pictures on their way from a request to a vector: taken out of a text, cut to a box, embedded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use dfml_models::{CropBox, DecodeError, Picture};
use tracing::Instrument as _;

use super::{ApiError, AppState, Backend};
use crate::{metrics::Stage, traces};

/// Standard base64, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An embedded picture, and where the time went.
pub(super) struct Embedded {
    /// Unit length, `[dim]`.
    pub(super) vector: Vec<f32>,
    /// Width in pixels, turned upright, before the crop.
    pub(super) width: u32,
    /// Height in pixels.
    pub(super) height: u32,
    pub(super) decode: Duration,
    pub(super) preprocess: Duration,
    /// The model, waiting for it included.
    pub(super) embed: Duration,
}

/// The picture that a text stands for: a data URI, bare base64, or an address if fetching is on.
pub(super) async fn from_text(state: &AppState, text: &str) -> Result<Bytes, ApiError> {
    let limit = state.options().decode_limits.max_bytes;
    if let Some(rest) = text.strip_prefix("data:") {
        let encoded = rest
            .split_once(',')
            .and_then(|(kind, encoded)| kind.to_ascii_lowercase().ends_with(";base64").then_some(encoded));
        let encoded = encoded
            .ok_or_else(|| not_base64("a data URI of a picture looks like data:image/png;base64,…"))?;
        return decode(state, encoded).await;
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        let fetcher = state.fetcher().ok_or(ApiError::SwitchedOff {
            what: "fetching pictures by address",
            how: "list the allowed hosts in fetch.hosts, or send the picture itself",
        })?;
        return fetcher.fetch(text, limit).await;
    }
    decode(state, text).await
}

async fn decode(state: &AppState, encoded: &str) -> Result<Bytes, ApiError> {
    // A long text keeps a core busy for milliseconds: not on a thread that talks to clients.
    let encoded = encoded.to_owned();
    let decoded = state.cpu_pool().run(move || BASE64.decode(encoded.trim_ascii())).await?;
    decoded.map(Bytes::from).map_err(|error| not_base64(&error.to_string()))
}

fn not_base64(reason: &str) -> ApiError {
    ApiError::Unprocessable { code: "not_base64", reason: format!("the picture is not base64: {reason}") }
}

struct Prepared {
    /// `[3, height, width]`, normalised.
    pixels: Vec<f32>,
    width: u32,
    height: u32,
    decode: Duration,
    preprocess: Duration,
}

/// Decodes a picture, resizes the part of it that is meant, and embeds that.
pub(super) async fn embed(
    state: &AppState,
    backend: &Arc<Backend>,
    file: Bytes,
    part: CropBox,
) -> Result<Embedded, ApiError> {
    let preparing = prepare(state, backend, file, part).instrument(traces::stage(Stage::Decode));
    let Prepared { pixels, width, height, decode, preprocess } = preparing.await?;
    let start = Instant::now();
    let vector = backend.batcher.embed(pixels).instrument(traces::stage(Stage::Inference)).await?;
    Ok(Embedded { vector, width, height, decode, preprocess, embed: start.elapsed() })
}

/// Image file to the model's input, on the CPU pool.
async fn prepare(
    state: &AppState,
    backend: &Arc<Backend>,
    file: Bytes,
    part: CropBox,
) -> Result<Prepared, ApiError> {
    let start = Instant::now();
    let (backend, limits) = (Arc::clone(backend), state.options().decode_limits);
    let prepared = state
        .cpu_pool()
        .run(move || {
            let picture = Picture::decode(&file, &limits)?;
            let (width, height) = (picture.width(), picture.height());
            let decode = start.elapsed();
            let transform = backend.transform();
            let mut pixels = vec![0.0; transform.output_len()];
            transform.prepare_into(&picture, part, &mut pixels);
            Ok(Prepared { pixels, width, height, decode, preprocess: start.elapsed() - decode })
        })
        .await?
        .inspect_err(|error: &DecodeError| state.metrics().decode_failed(error.kind()))?;
    state.metrics().stage(Stage::Decode, prepared.decode);
    state.metrics().stage(Stage::Preprocess, prepared.preprocess);
    Ok(prepared)
}
