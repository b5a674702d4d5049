//! The contract between training and serving: a file beside the model that says what it is.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::arch::{Architecture, ArchitectureError};
use crate::atomic::write_atomically;
use crate::calibration::Calibration;
use crate::reference::{Reference, ReferenceError};
use crate::transform::{Transform, TransformError};

/// The version of the format that this code reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Name of the manifest in a model directory.
pub const MANIFEST_FILE: &str = "manifest.json";

/// What a model is, and what it was made from. Stored as `manifest.json` in the model's directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format; see [`FORMAT_VERSION`].
    pub format_version: u32,
    /// A name for people.
    pub name: String,
    /// The network.
    pub architecture: Architecture,
    /// Length of the embeddings.
    pub embedding_dim: usize,
    /// Numbers that the network computes with.
    pub precision: Precision,
    /// How much of it is computed for an image.
    #[serde(default, skip_serializing_if = "Effort::is_dense")]
    pub effort: Effort,
    /// How images are prepared for it.
    pub transform: Transform,
    /// The files that belong to it.
    pub files: Files,
    /// What it was made from.
    pub lineage: Lineage,
    /// How well the exported network agrees with the one that was trained, once that was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
    /// How well it retrieves, where that was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evaluation: Vec<Evaluation>,
    /// What was lost against the model that this one was made from, if it is a cheaper form of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Variant>,
    /// What its similarities mean, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// Numbers that a network computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point.
    Fp32,
    /// 16-bit floating point, for GPUs.
    Fp16,
    /// 8-bit integers, with a scale of its own for every output channel of a weight.
    Int8,
}

/// How much of a network is computed for an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// All sub-blocks, folded into a plain network.
    #[default]
    Dense,
    /// The sub-blocks that the routers choose.
    Routed,
}

impl Effort {
    fn is_dense(&self) -> bool {
        *self == Effort::Dense
    }
}

/// A cheaper form of a model, and what it costs in retrieval. Measured when it was made, on the same images for both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Fingerprint of the model that it was made from.
    pub of: String,
    /// What was searched with and in.
    pub dataset: String,
    /// Number of queries.
    pub queries: usize,
    /// Number of images searched.
    pub gallery: usize,
    /// Share of queries whose first result is right, with the model that it was made from.
    pub recall_at_1_before: f64,
    /// The same with this one.
    pub recall_at_1: f64,
    /// Mean cosine of the two models' embeddings of an image.
    pub mean_cosine: f64,
    /// Lowest cosine to the training network's embeddings of the reference images, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_cosine: Option<f64>,
    /// SHA-256 of the list of images that its scales were set by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_sha256: Option<String>,
}

impl Variant {
    /// Recall@1 that was lost, in percentage points.
    pub fn recall_loss_points(&self) -> f64 {
        100.0 * (self.recall_at_1_before - self.recall_at_1)
    }
}

/// The files of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The network as ONNX.
    pub model: FileHash,
    /// Images and the embeddings that the training network gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<FileHash>,
}

/// A file and what its content must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileHash {
    /// Name in the model's directory; no path.
    pub name: String,
    /// SHA-256 of the content, in lower-case hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// What a model was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// SHA-256 of the pretrained weights.
    pub weights_sha256: String,
    /// SHA-256 of the list of training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_sha256: Option<String>,
    /// SHA-256 of the training configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_sha256: Option<String>,
    /// SHA-256 of the checkpoint it was exported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_sha256: Option<String>,
    /// Seed of the training run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The program that made it, and its version.
    pub producer: String,
}

/// Agreement of the exported network with the one that was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// Number of images compared.
    pub images: usize,
    /// Lowest cosine between the two embeddings of an image.
    pub min_cosine: f64,
    /// The runtime that executed the exported network, with its version.
    pub runtime: String,
    /// Its execution provider.
    pub provider: String,
}

/// Retrieval quality on one set of queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// What was searched with and in.
    pub dataset: String,
    /// Number of queries.
    pub queries: usize,
    /// Number of images searched.
    pub gallery: usize,
    /// Share of queries with a match among the first k, by k.
    pub recall_at_k: BTreeMap<u32, f64>,
    /// Mean R-precision.
    pub r_precision: f64,
    /// Mean average precision at R.
    pub map_at_r: f64,
}

/// Why a model directory could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A file could not be opened, read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The manifest is not what this version understands.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The manifest has another format version.
    #[error("{}: format version {found} is not supported; this program reads version {FORMAT_VERSION}", path.display())]
    Version {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// A file's content is not what the manifest says.
    #[error("{}: the file is not the one that the manifest describes: SHA-256 is {found}, expected {expected}", path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A file's size is not what the manifest says.
    #[error("{}: the file has {found} bytes; the manifest says {expected}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The reference embeddings could not be read.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

impl Manifest {
    /// Reads `manifest.json` of a model directory and checks it against the files there.
    ///
    /// Strict: an unknown field, another format version, inconsistent sizes, a missing file or one with
    /// another hash is an error that names it.
    pub fn load(dir: impl AsRef<Path>) -> Result<Manifest, ManifestError> {
        let dir = dir.as_ref();
        let manifest = Manifest::parse(&dir.join(MANIFEST_FILE))?;
        for file in manifest.files.all() {
            file.verify(dir)?;
        }
        Ok(manifest)
    }

    /// Reads a manifest without looking at the files it names.
    fn parse(path: &Path) -> Result<Manifest, ManifestError> {
        let invalid = |reason: String| ManifestError::Invalid { path: path.to_owned(), reason };
        let text = fs_err::read_to_string(path)?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        // Looked at first: another version may well have other fields.
        match value.get("format_version") {
            None => return Err(invalid("it has no format_version".to_owned())),
            Some(version) if version.as_u64() != Some(FORMAT_VERSION.into()) => {
                return Err(ManifestError::Version { path: path.to_owned(), found: version.to_string() });
            }
            Some(_) => {}
        }
        // From the text again, because only then errors carry line and column.
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        manifest.check().map_err(invalid)?;
        Ok(manifest)
    }

    /// What does not fit together, if anything.
    fn check(&self) -> Result<(), String> {
        self.architecture.validate().map_err(|e: ArchitectureError| e.to_string())?;
        self.transform.validate().map_err(|e: TransformError| e.to_string())?;
        let dim = self.architecture.embedding_dim();
        if self.embedding_dim != dim {
            return Err(format!("embedding_dim is {}, but the architecture gives {dim}", self.embedding_dim));
        }
        if let Some(calibration) = &self.calibration {
            calibration.validate()?;
        }
        match self.files.all().find(|file| !file.is_plain_name()) {
            Some(file) => Err(format!("{:?} is not a plain file name", file.name)),
            None => Ok(()),
        }
    }

    /// Writes `manifest.json` into a model directory, whole or not at all.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<(), ManifestError> {
        let path = dir.as_ref().join(MANIFEST_FILE);
        let invalid = |reason: String| ManifestError::Invalid { path: path.clone(), reason };
        self.check().map_err(invalid)?;
        let mut text = serde_json::to_string_pretty(self).map_err(|error| invalid(error.to_string()))?;
        text.push('\n');
        Ok(write_atomically(&path, text.as_bytes())?)
    }

    /// Identifies the function from image to embedding: hexadecimal SHA-256 of the model's hash and the
    /// transform. Embeddings of equal fingerprints can be compared.
    pub fn fingerprint(&self) -> String {
        let transform =
            serde_json::to_string(&self.transform).expect("a transform holds only finite numbers");
        sha256_hex(format!("{}\n{transform}", self.files.model.sha256).as_bytes())
    }

    /// The smallest cosine to the training network's embeddings that shows that this very model is computed: close to 1, or
    /// a little below what a cheaper form had when it was made.
    pub fn reference_cosine_min(&self) -> f64 {
        const SAME: f64 = 0.99999;
        match self.variant.as_ref().and_then(|variant| variant.reference_cosine) {
            Some(cosine) => SAME.min(1.0 - 2.0 * (1.0 - cosine)) - 1e-3,
            None => SAME,
        }
    }

    /// Path of the ONNX file.
    pub fn model_path(&self, dir: impl AsRef<Path>) -> PathBuf {
        dir.as_ref().join(&self.files.model.name)
    }

    /// Reads the reference images and embeddings, if the model has them.
    pub fn load_reference(&self, dir: impl AsRef<Path>) -> Result<Option<Reference>, ManifestError> {
        let Some(file) = &self.files.reference else { return Ok(None) };
        Ok(Some(Reference::load(dir.as_ref().join(&file.name))?))
    }
}

impl Files {
    fn all(&self) -> impl Iterator<Item = &FileHash> {
        std::iter::once(&self.model).chain(&self.reference)
    }
}

impl FileHash {
    /// Describes an existing file of a directory.
    pub fn of(dir: impl AsRef<Path>, name: &str) -> std::io::Result<FileHash> {
        let path = dir.as_ref().join(name);
        let (sha256, bytes) = hash_file(&path)?;
        Ok(FileHash { name: name.to_owned(), sha256, bytes })
    }

    /// Whether the name stays inside the model's directory.
    fn is_plain_name(&self) -> bool {
        let mut parts = Path::new(&self.name).components();
        matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(part)), None) if part == self.name.as_str())
    }

    fn verify(&self, dir: &Path) -> Result<(), ManifestError> {
        let path = dir.join(&self.name);
        let (found, bytes) = hash_file(&path)?;
        if bytes != self.bytes {
            return Err(ManifestError::Size { path, expected: self.bytes, found: bytes });
        }
        if found != self.sha256 {
            return Err(ManifestError::Hash { path, expected: self.sha256.clone(), found });
        }
        Ok(())
    }
}

/// Lower-case hexadecimal SHA-256 of some bytes.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Lower-case hexadecimal SHA-256 of a file, read piece by piece.
pub fn sha256_file(path: impl AsRef<Path>) -> std::io::Result<String> {
    Ok(hash_file(path.as_ref())?.0)
}

fn hash_file(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = fs_err::File::open(path)?;
    let (mut hash, mut total) = (Sha256::new(), 0u64);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hex::encode(hash.finalize()), total));
        }
        hash.update(&buffer[..read]);
        total += read as u64;
    }
}
