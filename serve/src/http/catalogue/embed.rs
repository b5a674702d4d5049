//! From what a client sends to an item that can be stored.

use std::sync::Arc;

use dfml_index::Item;
use dfml_models::CropBox;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::super::{ApiError, AppState, Backend, error::shortened, images::PATH_KEY, picture};
use crate::bulk::STAMP_KEY;

/// What an item is made of: a picture or its embedding, and what is known about it.
pub(super) struct Pictured {
    pub(super) image: Option<String>,
    pub(super) vector: Option<Vec<f32>>,
    pub(super) metadata: Map<String, Value>,
}

/// The item, and the digest of its picture's file.
pub(super) struct Made {
    pub(super) item: Item,
    /// SHA-256 in hexadecimal, of the file or of the vector's bytes.
    pub(super) sha256: String,
}

/// Makes an item out of what was sent; keeps the picture if the server keeps uploads.
pub(super) async fn make(
    state: &AppState,
    backend: &Arc<Backend>,
    id: String,
    product_id: String,
    pictured: Pictured,
) -> Result<Made, ApiError> {
    let Pictured { image, vector, mut metadata } = pictured;
    check_metadata(&metadata)?;
    check_id("product_id", &product_id)?;
    let invalid = |reason: &str| ApiError::Unprocessable { code: "invalid_item", reason: reason.to_owned() };
    let (vector, sha256) = match (image, vector) {
        (Some(text), None) => {
            let file = picture::from_text(state, &text).await?;
            let embedded = picture::embed(state, backend, file.clone(), CropBox::WHOLE).await?;
            let sha256 = hex::encode(Sha256::digest(&file));
            if let Some(uploads) = state.uploads().cloned() {
                let kept = tokio::task::spawn_blocking(move || uploads.keep(&file)).await;
                let path = kept
                    .map_err(|error| ApiError::Internal(error.to_string()))?
                    .map_err(|error| ApiError::Internal(format!("an upload cannot be kept: {error}")))?;
                metadata.insert(PATH_KEY.to_owned(), path.into());
            }
            (embedded.vector, sha256)
        }
        (None, Some(vector)) => {
            let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            let dim = backend.manifest.embedding_dim;
            if vector.len() != dim || !length.is_finite() || length < f64::from(f32::MIN_POSITIVE) {
                return Err(invalid(&format!(
                    "a vector of this model has {dim} finite numbers that are not all zero"
                )));
            }
            let unit: Vec<f32> = vector.iter().map(|&value| (f64::from(value) / length) as f32).collect();
            let bytes: Vec<u8> = unit.iter().flat_map(|value| value.to_le_bytes()).collect();
            (unit, hex::encode(Sha256::digest(&bytes)))
        }
        _ => return Err(invalid("give either its image or its vector")),
    };
    Ok(Made { item: Item { id, product_id, vector, metadata }, sha256 })
}

/// Metadata that is not too large and leaves the server's own keys alone.
pub(super) fn check_metadata(metadata: &Map<String, Value>) -> Result<(), ApiError> {
    let invalid = |reason: String| Err(ApiError::Unprocessable { code: "invalid_metadata", reason });
    if metadata.contains_key(STAMP_KEY) {
        return invalid(format!("the metadata key {STAMP_KEY:?} is the server's own"));
    }
    let bytes = serde_json::to_string(metadata).map_or(0, |text| text.len());
    let most = Item::METADATA_BYTES_MAX;
    if bytes > most {
        return invalid(format!("the metadata has {bytes} bytes; at most {most} are kept"));
    }
    Ok(())
}

/// An id that an index takes.
pub(super) fn check_id(name: &'static str, id: &str) -> Result<(), ApiError> {
    if (1..=Item::ID_BYTES_MAX).contains(&id.len()) {
        return Ok(());
    }
    let reason = format!("it must have 1 to {} bytes", Item::ID_BYTES_MAX);
    Err(ApiError::Unprocessable {
        code: "invalid_item",
        reason: format!("{name} {:?}: {reason}", shortened(id)),
    })
}
