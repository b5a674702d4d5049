//! Known answers: images, and the embeddings that the training network gave them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, View};

use crate::transform::RgbImage8;
use crate::weights::{WeightsError, parse_safetensors, save_views};

/// Images of the network's input size and their embeddings, so that any runtime can be checked against the
/// training network without it.
///
/// Stored as safetensors: `pixels` u8 `[n, height, width, 3]` after resizing and cropping, `embedding` f32 `[n, dim]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Images, all of the same size.
    pub pixels: Vec<RgbImage8>,
    /// One embedding per image, all of the same length.
    pub embeddings: Vec<Vec<f32>>,
}

/// Why reference images could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The file could not be read or written as safetensors.
    #[error(transparent)]
    File(#[from] WeightsError),
    /// The images and embeddings do not fit together.
    #[error("{}: not a usable set of reference images: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Reference {
    /// Reads a reference file.
    pub fn load(path: impl AsRef<Path>) -> Result<Reference, ReferenceError> {
        let path = path.as_ref();
        let invalid = |reason: String| ReferenceError::Invalid { path: path.to_owned(), reason };
        let bytes = fs_err::read(path).map_err(WeightsError::from)?;
        let file = parse_safetensors(path, &bytes)?;
        let tensor = |name: &str| file.tensor(name).map_err(|error| invalid(error.to_string()));
        let (pixels, embedding) = (tensor("pixels")?, tensor("embedding")?);
        if pixels.dtype() != Dtype::U8 || embedding.dtype() != Dtype::F32 {
            return Err(invalid("pixels must be u8 and embedding f32".to_owned()));
        }
        let (&[n, height, width, 3], &[m, dim]) = (pixels.shape(), embedding.shape()) else {
            return Err(invalid("pixels must be [n, height, width, 3] and embedding [n, dim]".to_owned()));
        };
        let (Ok(w), Ok(h)) = (u32::try_from(width), u32::try_from(height)) else {
            return Err(invalid(format!("{width}x{height} pixels")));
        };
        if n != m || n == 0 || w == 0 || h == 0 || dim == 0 {
            return Err(invalid(format!(
                "{n} images of {width}x{height} pixels, {m} embeddings of length {dim}"
            )));
        }
        let images = pixels.data().chunks_exact(height * width * 3);
        let floats = embedding.data().as_chunks::<4>().0;
        Ok(Reference {
            pixels: images.map(|data| RgbImage8 { width: w, height: h, data: data.to_vec() }).collect(),
            embeddings: floats
                .chunks_exact(dim)
                .map(|row| row.iter().map(|x| f32::from_le_bytes(*x)).collect())
                .collect(),
        })
    }

    /// Writes a reference file, whole or not at all. All images must have one size and all embeddings one length.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ReferenceError> {
        let path = path.as_ref();
        let invalid =
            |reason: &str| ReferenceError::Invalid { path: path.to_owned(), reason: reason.to_owned() };
        let (Some(image), Some(embedding)) = (self.pixels.first(), self.embeddings.first()) else {
            return Err(invalid("there are no images"));
        };
        if self.pixels.len() != self.embeddings.len() {
            return Err(invalid("there is not one embedding per image"));
        }
        if self.pixels.iter().any(|i| (i.width, i.height) != (image.width, image.height)) {
            return Err(invalid("the images differ in size"));
        }
        if self.embeddings.iter().any(|e| e.len() != embedding.len()) {
            return Err(invalid("the embeddings differ in length"));
        }
        let n = self.pixels.len();
        let pixels = Array {
            dtype: Dtype::U8,
            shape: vec![n, image.height as usize, image.width as usize, 3],
            data: self.pixels.iter().flat_map(|i| i.data.iter().copied()).collect(),
        };
        let embedding = Array {
            dtype: Dtype::F32,
            shape: vec![n, embedding.len()],
            data: self.embeddings.iter().flatten().flat_map(|x| x.to_le_bytes()).collect(),
        };
        Ok(save_views(path, [("pixels", pixels), ("embedding", embedding)], &BTreeMap::new())?)
    }
}

/// An array as the safetensors writer wants to see it.
struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl View for Array {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}
