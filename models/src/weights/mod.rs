//! Weight files: named tensors read from safetensors and PyTorch checkpoints, written as safetensors.

mod pytorch;
mod safetensors_file;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use safetensors_file::{load_metadata, save_safetensors};
pub(crate) use safetensors_file::{parse as parse_safetensors, save_views};

/// A named set of tensors, as a weight file holds them.
pub type TensorMap = BTreeMap<String, Tensor>;

/// A dense array of `f32`, contiguous and row major.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    /// Extent of each dimension, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements; its length is the product of `shape`.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of the given shape.
    ///
    /// # Panics
    /// If `data` does not hold exactly the elements of `shape`: a mistake of the caller, not of any input.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?} does not fit the data");
        Tensor { shape, data }
    }

    /// A tensor of the given shape whose elements are all `value`.
    pub fn full(shape: Vec<usize>, value: f32) -> Tensor {
        let data = vec![value; shape.iter().product()];
        Tensor { shape, data }
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.data.len()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor{:?}", self.shape)
    }
}

/// Why a weight file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file could not be opened, read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file's first bytes belong to no supported format.
    #[error("{}: neither safetensors nor a PyTorch checkpoint (.pth)", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A PyTorch checkpoint is damaged or holds something that is not a plain state dictionary.
    #[error("{}: not a readable PyTorch checkpoint: {reason}", path.display())]
    Pytorch {
        /// The file.
        path: PathBuf,
        /// What the reader found.
        reason: String,
    },
    /// A safetensors file is damaged.
    #[error("{}: not a readable safetensors file: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the reader found.
        reason: String,
    },
    /// A tensor has an element type that weights cannot have.
    #[error("{}: tensor {name} has element type {dtype}, which is not supported for weights", path.display())]
    ElementType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its element type.
        dtype: String,
    },
    /// The file is readable but holds no tensor.
    #[error("{}: holds no tensors", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Reads every floating-point or integer tensor of a weight file as `f32`.
///
/// The format is found from the content, not the name: safetensors, or any of PyTorch's own (zip, the older
/// pickle stream, tar). Nothing in a checkpoint is executed. Weights nested under a single usual key
/// (`model`, `state_dict`, `model_state_dict`, `module`) are found there, and that prefix is removed.
/// Lengths that a file claims are checked against the file before memory is taken for them.
pub fn load_weights(path: impl AsRef<Path>) -> Result<TensorMap, WeightsError> {
    let path = path.as_ref();
    let mut head = Vec::with_capacity(512);
    fs_err::File::open(path)?.take(512).read_to_end(&mut head)?;
    let map = if safetensors_file::looks_like(&head) {
        safetensors_file::load(path)?
    } else if pytorch::looks_like(&head) {
        pytorch::load(path)?
    } else {
        return Err(WeightsError::UnknownFormat { path: path.to_owned() });
    };
    if map.is_empty() {
        return Err(WeightsError::Empty { path: path.to_owned() });
    }
    Ok(map)
}
