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
use dfml_models::{DecodeError, RgbImage8};

use super::{ApiError, AppState, Backend, search::CropBox};
use crate::metrics::Stage;

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

/// Decodes, cuts, resizes and embeds a picture.
pub(super) async fn embed(
    state: &AppState,
    backend: &Arc<Backend>,
    file: Bytes,
    crop: Option<CropBox>,
) -> Result<Embedded, ApiError> {
    let Prepared { pixels, width, height, decode, preprocess } = prepare(state, backend, file, crop).await?;
    let start = Instant::now();
    let vector = backend.batcher.embed(pixels).await?;
    Ok(Embedded { vector, width, height, decode, preprocess, embed: start.elapsed() })
}

/// Image file to the model's input, on the CPU pool.
async fn prepare(
    state: &AppState,
    backend: &Arc<Backend>,
    file: Bytes,
    crop: Option<CropBox>,
) -> Result<Prepared, ApiError> {
    let start = Instant::now();
    let (backend, limits) = (Arc::clone(backend), state.options().decode_limits);
    let prepared = state
        .cpu_pool()
        .run(move || {
            let mut decoded = dfml_models::decode(&file, &limits)?;
            let (width, height) = (decoded.width, decoded.height);
            if let Some(crop) = crop {
                decoded = cut(&decoded, crop);
            }
            let decode = start.elapsed();
            let transform = backend.transform();
            let mut pixels = vec![0.0; transform.output_len()];
            transform.normalize_into(&transform.resize_crop(&decoded), &mut pixels);
            Ok(Prepared { pixels, width, height, decode, preprocess: start.elapsed() - decode })
        })
        .await?
        .inspect_err(|error: &DecodeError| state.metrics().decode_failed(error.kind()))?;
    state.metrics().stage(Stage::Decode, prepared.decode);
    state.metrics().stage(Stage::Preprocess, prepared.preprocess);
    Ok(prepared)
}

/// The part of the picture inside the box: whole pixels, at least one, never outside.
fn cut(image: &RgbImage8, crop: CropBox) -> RgbImage8 {
    let span = |start: f64, extent: f64, size: u32| {
        let first = ((start * f64::from(size)) as u32).min(size - 1);
        let end = ((start + extent) * f64::from(size)).round() as u32;
        (first, end.clamp(first + 1, size))
    };
    let (left, right) = span(crop.left, crop.width, image.width);
    let (top, bottom) = span(crop.top, crop.height, image.height);
    let row_bytes = image.width as usize * 3;
    let mut data = Vec::with_capacity((right - left) as usize * (bottom - top) as usize * 3);
    for row in image.data.chunks_exact(row_bytes).take(bottom as usize).skip(top as usize) {
        data.extend_from_slice(&row[left as usize * 3..right as usize * 3]);
    }
    RgbImage8::new(right - left, bottom - top, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture whose pixels tell where they are.
    fn chart(width: u32, height: u32) -> RgbImage8 {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 0]));
        RgbImage8::new(width, height, pixels.collect())
    }

    #[test]
    fn a_box_gives_its_own_pixels() {
        let image = chart(8, 4);
        let part = cut(&image, CropBox { left: 0.25, top: 0.5, width: 0.5, height: 0.5 });
        assert_eq!((part.width, part.height), (4, 2));
        assert_eq!(&part.data[..3], [2, 2, 0]);
        assert_eq!(&part.data[part.data.len() - 3..], [5, 3, 0]);
        assert_eq!(cut(&image, CropBox { left: 0.0, top: 0.0, width: 1.0, height: 1.0 }), image);
    }

    #[test]
    fn a_box_that_reaches_out_or_is_thinner_than_a_pixel_still_gives_a_picture() {
        let image = chart(8, 4);
        let outside = cut(&image, CropBox { left: 0.75, top: 0.75, width: 1.0, height: 1.0 });
        assert_eq!((outside.width, outside.height), (2, 1));
        let thin = cut(&image, CropBox { left: 0.999, top: 0.999, width: 1e-9, height: 1e-9 });
        assert_eq!((thin.width, thin.height, &thin.data[..]), (1, 1, &[7, 3, 0][..]));
    }
}
