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
    /// The configured device cannot be used.
    #[error("{0}")]
    Device(String),
    /// There are no weights to start from.
    #[error(
        "no pretrained weights{wanted} were given: name a .pth or .safetensors file with --weights or model.weights (`cargo xtask setup` \
         fetches those of efficientnet_lite0)"
    )]
    NoWeights {
        /// ` of NAME`, or nothing.
        wanted: String,
    },
    /// The network cannot take images of the configured size.
    #[error("the network takes images of {network} pixels, but data.image_size is {config}")]
    ImageSize {
        /// Side in pixels that the network takes.
        network: usize,
        /// Side in pixels that is configured.
        config: u32,
    },
    /// The architecture's numbers do not work out, or its name is unknown.
    #[error(transparent)]
    Architecture(#[from] dfml_models::ArchitectureError),
    /// A checkpoint cannot be used.
    #[error("{path}: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The run directory holds another run's checkpoints.
    #[error("{out} holds checkpoints of a run: go on with --resume, or name another --out")]
    RunExists {
        /// The run directory.
        out: PathBuf,
    },
    /// A run cannot go on with other settings than it was begun with.
    #[error("{out} was begun with other settings ({reason}): go on with the same, or name another --out")]
    OtherSettings {
        /// The run directory.
        out: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// The run was told to stop.
    #[error("stopped; go on with --resume (checkpoint {checkpoint})")]
    Interrupted {
        /// Where the run goes on.
        checkpoint: PathBuf,
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
        /// 1-based optimiser step, over all epochs.
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
