//! What can go wrong in training.

use std::path::PathBuf;

/// An error of the training crate; each names the file, tensor or step concerned.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The weights lack a tensor that the architecture has.
    #[error("the weights have no tensor `{name}`")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor's shape does not fit the architecture.
    #[error("tensor `{name}` has shape {found:?}, the architecture needs {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// What the architecture needs.
        expected: Vec<usize>,
        /// What the file has.
        found: Vec<usize>,
    },
    /// The configuration file cannot be read or is not valid.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key where known.
        reason: String,
    },
    /// The data set cannot be trained on.
    #[error("{list}: {reason}")]
    Data {
        /// The list file.
        list: PathBuf,
        /// What is wrong, with counts or names.
        reason: String,
    },
    /// A list file cannot be read.
    #[error(transparent)]
    List(#[from] dfml_index::sop::SopError),
    /// An image cannot be read or decoded.
    #[error("{path}: {reason}")]
    Image {
        /// The image file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The loss is not a number.
    #[error(
        "the loss is {value} at epoch {epoch}, step {step}; images of the batch: {}; last good checkpoint: {}",
        files.join(", "),
        checkpoint.as_ref().map_or("none".into(), |path| path.display().to_string())
    )]
    NotFinite {
        /// NaN or an infinity.
        value: f64,
        /// 1-based epoch.
        epoch: usize,
        /// 1-based step within the epoch.
        step: usize,
        /// The batch's image files.
        files: Vec<String>,
        /// Where training can be taken up again.
        checkpoint: Option<PathBuf>,
    },
    /// Reading or writing weights failed.
    #[error(transparent)]
    Weights(#[from] dfml_models::WeightsError),
    /// Writing the model directory failed.
    #[error(transparent)]
    Export(#[from] dfml_models::ExportError),
    /// The principal components of the features cannot be computed.
    #[error(transparent)]
    Pca(#[from] dfml_models::PcaError),
    /// Weights and architecture do not fit each other.
    #[error(transparent)]
    Factorize(#[from] dfml_models::FactorizeError),
    /// Embeddings cannot be judged.
    #[error("evaluation: {0}")]
    Metrics(#[from] dfml_index::metrics::MetricsError),
    /// A file operation failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// libtorch reported an error.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}
