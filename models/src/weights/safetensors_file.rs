//! The safetensors format, by way of the `safetensors` crate.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};

use super::{Tensor, TensorMap, WeightsError};
use crate::atomic::write_atomically;

/// Whether the first bytes are a safetensors header: its length, then a JSON object.
pub(super) fn looks_like(head: &[u8]) -> bool {
    head.len() > 8 && head[8] == b'{'
}

/// Reads all tensors as `f32`.
pub(super) fn load(path: &Path) -> Result<TensorMap, WeightsError> {
    let bytes = fs_err::read(path)?;
    let file = parse(path, &bytes)?;
    file.iter()
        .map(|(name, view)| {
            let data = to_f32(&view).ok_or_else(|| WeightsError::ElementType {
                path: path.to_owned(),
                name: name.to_owned(),
                dtype: format!("{:?}", view.dtype()),
            })?;
            Ok((name.to_owned(), Tensor { shape: view.shape().to_vec(), data }))
        })
        .collect()
}

/// Reads the text metadata of a safetensors file's header.
pub fn load_metadata(path: impl AsRef<Path>) -> Result<BTreeMap<String, String>, WeightsError> {
    let path = path.as_ref();
    let bytes = fs_err::read(path)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| bad(path, error))?;
    Ok(header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect())
}

pub(crate) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, WeightsError> {
    SafeTensors::deserialize(bytes).map_err(|error| bad(path, error))
}

fn bad(path: &Path, error: safetensors::SafeTensorError) -> WeightsError {
    WeightsError::Safetensors { path: path.to_owned(), reason: error.to_string() }
}

/// Converts little-endian elements; `None` for element types that weights do not have.
fn to_f32(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => elements(bytes, f32::from_le_bytes),
        Dtype::F64 => elements(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::F16 => elements(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => elements(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::I64 => elements(bytes, |b| i64::from_le_bytes(b) as f32),
        Dtype::I32 => elements(bytes, |b| i32::from_le_bytes(b) as f32),
        _ => return None,
    })
}

/// Converts each group of `N` bytes; a remainder cannot occur, the readers check lengths.
pub(super) fn elements<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
}

/// Writes tensors and text metadata as safetensors.
///
/// The file appears under its name whole or not at all: it is written beside it, flushed to disk and renamed.
pub fn save_safetensors(
    path: impl AsRef<Path>,
    tensors: &TensorMap,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let views = tensors.iter().map(|(name, tensor)| (name.as_str(), FloatView(tensor)));
    save_views(path.as_ref(), views, metadata)
}

/// Writes any views as safetensors, atomically.
pub(crate) fn save_views<'a, V: View>(
    path: &Path,
    views: impl IntoIterator<Item = (&'a str, V)>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let metadata = (!metadata.is_empty()).then_some(metadata);
    let bytes = safetensors::serialize(views, metadata).map_err(|error| bad(path, error))?;
    Ok(write_atomically(path, &bytes)?)
}

/// A tensor as the safetensors writer wants to see it.
struct FloatView<'a>(&'a Tensor);

impl View for FloatView<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        if cfg!(target_endian = "little") {
            Cow::Borrowed(bytemuck::cast_slice(&self.0.data))
        } else {
            Cow::Owned(self.0.data.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
    }
    fn data_len(&self) -> usize {
        self.0.data.len() * 4
    }
}
