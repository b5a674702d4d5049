//! Writing a model directory: the ONNX file, the reference images and the manifest.

use std::path::Path;

use crate::arch::Architecture;
use crate::atomic::write_atomically;
use crate::factorize::{FactorizeError, to_dense};
use crate::manifest::{Effort, FORMAT_VERSION, FileHash, Files, Lineage, Manifest, ManifestError, Precision};
use crate::onnx;
use crate::reference::{Reference, ReferenceError};
use crate::transform::{Transform, TransformError};
use crate::weights::TensorMap;

/// Name of the network's file in a model directory.
pub const MODEL_FILE: &str = "model.onnx";
/// Name of the reference images' file in a model directory.
pub const REFERENCE_FILE: &str = "reference.safetensors";

/// What goes into a model directory.
#[derive(Clone, Debug)]
pub struct ExportRequest<'a> {
    /// A name for people.
    pub name: String,
    /// The network.
    pub architecture: Architecture,
    /// Its weights, dense or factorised; factorised ones are folded.
    pub weights: &'a TensorMap,
    /// How images are prepared for it; its crop is the network's input size.
    pub transform: Transform,
    /// What it was made from.
    pub lineage: Lineage,
    /// Images and the embeddings that the training network gave them.
    pub reference: Option<Reference>,
}

/// Why a model could not be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The directory or a file could not be written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The weights do not fit the architecture.
    #[error(transparent)]
    Weights(#[from] FactorizeError),
    /// The transform does not make sense.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// The network cannot take images of the transform's size.
    #[error("the network takes images of {expected} pixels, but the transform makes {found}")]
    InputSize {
        /// Width and height that the network takes.
        expected: String,
        /// Width and height of the transform's crop.
        found: String,
    },
    /// The reference images or embeddings have another size than the network.
    #[error("the reference does not fit the model: {reason}")]
    ReferenceSize {
        /// Which sizes disagree.
        reason: String,
    },
    /// The reference could not be written.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The manifest could not be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Writes `model.onnx`, `reference.safetensors` (if given) and `manifest.json` into `dir`, which is created if needed.
///
/// The network takes `pixels`, f32 `[batch, 3, height, width]`, normalised, and gives `embedding`, f32
/// `[batch, dim]`, of unit length; any batch size. The manifest is written last, so a directory with a
/// manifest that loads is complete.
pub fn write_model_dir(dir: impl AsRef<Path>, request: &ExportRequest<'_>) -> Result<Manifest, ExportError> {
    let dir = dir.as_ref();
    request.transform.validate()?;
    let dense = to_dense(&request.architecture, request.weights)?;
    check_sizes(request)?;
    let model = onnx::model(&request.architecture, &dense, &request.transform);

    fs_err::create_dir_all(dir)?;
    write_atomically(&dir.join(MODEL_FILE), &model)?;
    let reference = match &request.reference {
        Some(reference) => {
            reference.save(dir.join(REFERENCE_FILE))?;
            Some(FileHash::of(dir, REFERENCE_FILE)?)
        }
        None => None,
    };
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        name: request.name.clone(),
        architecture: request.architecture.clone(),
        embedding_dim: request.architecture.embedding_dim(),
        precision: Precision::Fp32,
        effort: Effort::Dense,
        transform: request.transform.clone(),
        files: Files { model: FileHash::of(dir, MODEL_FILE)?, reference },
        lineage: request.lineage.clone(),
        parity: None,
        evaluation: Vec::new(),
        variant: None,
        calibration: None,
    };
    manifest.save(dir)?;
    Ok(manifest)
}

fn check_sizes(request: &ExportRequest<'_>) -> Result<(), ExportError> {
    let (w, h) = (request.transform.crop_width, request.transform.crop_height);
    if let Architecture::Vit(net) = &request.architecture
        && (net.image_size != w as usize || net.image_size != h as usize)
    {
        let side = net.image_size;
        return Err(ExportError::InputSize { expected: format!("{side}x{side}"), found: format!("{w}x{h}") });
    }
    let Some(reference) = &request.reference else { return Ok(()) };
    if let Some(image) = reference.pixels.iter().find(|image| (image.width, image.height) != (w, h)) {
        let reason =
            format!("an image of {}x{} pixels, the network's are {w}x{h}", image.width, image.height);
        return Err(ExportError::ReferenceSize { reason });
    }
    let dim = request.architecture.embedding_dim();
    if let Some(embedding) = reference.embeddings.iter().find(|embedding| embedding.len() != dim) {
        let reason = format!("an embedding of length {}, the network's have {dim}", embedding.len());
        return Err(ExportError::ReferenceSize { reason });
    }
    Ok(())
}
