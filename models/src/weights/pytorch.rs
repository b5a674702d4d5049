//! PyTorch checkpoints, by way of the `pytorch-reader` crate, which interprets only the pickle instructions
//! that rebuild tensors and executes nothing.

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use pytorch_reader::{DType, PytorchReader};

use super::safetensors_file::elements;
use super::{Tensor, TensorMap, WeightsError};

/// Keys under which training scripts usually nest the state dictionary.
const NESTING_KEYS: [&str; 4] = ["model", "state_dict", "model_state_dict", "module"];

/// A view can claim many more elements than the file stores (stride 0), so the file's size alone does not
/// bound what its tensors expand to. Real checkpoints expand to at most their size; this leaves room.
const MAX_EXPANSION: u64 = 8;

/// Whether the first bytes are those of a zip archive, a binary pickle or a tar archive.
pub(super) fn looks_like(head: &[u8]) -> bool {
    let pickle = head.len() > 1 && head[0] == 0x80 && (1..=5).contains(&head[1]);
    head.starts_with(b"PK\x03\x04") || pickle || head.get(257..262) == Some(b"ustar")
}

/// Reads all tensors as `f32`, without the prefix of a nesting key.
pub(super) fn load(path: &Path) -> Result<TensorMap, WeightsError> {
    let bad = |reason: String| WeightsError::Pytorch { path: path.to_owned(), reason };
    let tensors = PytorchReader::new(path).map_err(|error| bad(error.to_string()))?.into_tensors();

    let total = tensors.values().try_fold(0u64, |sum, tensor| {
        let elements = tensor.shape().iter().try_fold(1usize, |n, extent| n.checked_mul(*extent))?;
        sum.checked_add(elements.checked_mul(4)? as u64)
    });
    let limit = fs_err::metadata(path)?.len().saturating_mul(MAX_EXPANSION);
    if total.is_none_or(|bytes| bytes > limit) {
        return Err(bad("its tensors claim far more elements than the file stores".to_owned()));
    }

    let prefix = nesting_prefix(&tensors);
    let mut map = TensorMap::new();
    for (name, tensor) in &tensors {
        let Some(short) = name.strip_prefix(prefix.as_str()) else { continue };
        let bytes = tensor.read().map_err(|error| bad(error.to_string()))?;
        let data = to_f32(tensor.dtype(), &bytes).ok_or_else(|| WeightsError::ElementType {
            path: path.to_owned(),
            name: name.clone(),
            dtype: format!("{:?}", tensor.dtype()),
        })?;
        map.insert(short.to_owned(), Tensor { shape: tensor.shape().to_vec(), data });
    }
    Ok(map)
}

/// The usual key under which the weights are nested, with its dot, or nothing if they are not.
///
/// A checkpoint that nests its weights often holds other tensors (the optimiser's moments) beside them.
fn nesting_prefix<T>(tensors: &HashMap<String, T>) -> String {
    NESTING_KEYS
        .iter()
        .map(|key| format!("{key}."))
        .find(|prefix| tensors.keys().any(|name| name.starts_with(prefix.as_str())))
        .unwrap_or_default()
}

/// Converts native-endian elements; `None` for element types that weights do not have.
fn to_f32(dtype: DType, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        DType::F32 => elements(bytes, f32::from_ne_bytes),
        DType::F64 => elements(bytes, |b| f64::from_ne_bytes(b) as f32),
        DType::F16 => elements(bytes, |b| f16::from_ne_bytes(b).to_f32()),
        DType::BF16 => elements(bytes, |b| bf16::from_ne_bytes(b).to_f32()),
        DType::I64 => elements(bytes, |b| i64::from_ne_bytes(b) as f32),
        DType::I32 => elements(bytes, |b| i32::from_ne_bytes(b) as f32),
        _ => return None,
    })
}
