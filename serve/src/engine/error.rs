//! What can go wrong between image bytes and an embedding.

use std::path::PathBuf;

use super::Provider;

/// Errors of the embedding engine. Each variant says what the caller or operator should do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No ONNX Runtime library in any of the places it is looked for. Operator: run the set-up.
    #[error(
        "the ONNX Runtime library was not found (looked at {}); run `cargo xtask setup`, or name the library with \
         --onnxruntime or ORT_DYLIB_PATH",
        list(.looked_at)
    )]
    LibraryMissing {
        /// Every path that was tried, in order.
        looked_at: Vec<PathBuf>,
    },
    /// The library is there but cannot be used: wrong architecture, too old, or missing dependencies.
    #[error("the ONNX Runtime library {} cannot be loaded: {reason}", path.display())]
    LibraryUnusable {
        /// The library file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The process already runs on another ONNX Runtime library; there can be only one.
    #[error("this process already uses the ONNX Runtime library {}; it cannot switch to {}", loaded.display(), asked.display())]
    LibraryConflict {
        /// The library in use.
        loaded: PathBuf,
        /// The library asked for.
        asked: PathBuf,
    },
    /// The model directory's manifest cannot be read, or does not fit the files beside it.
    #[error(transparent)]
    Manifest(#[from] dfml_models::ManifestError),
    /// ONNX Runtime refused the model file.
    #[error("{}: ONNX Runtime cannot load this model: {reason}", model.display())]
    Session {
        /// The model file.
        model: PathBuf,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// The model's inputs or outputs are not what its manifest promises.
    #[error("{}: the model's {what} is {found}, the manifest promises {expected}", model.display())]
    Signature {
        /// The model file.
        model: PathBuf,
        /// Which input or output.
        what: &'static str,
        /// What the file has.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// A GPU was required (`--require-gpu`) and none could be used. Exit code 3.
    #[error("a GPU is required, but provider {requested} gave {active}: {reason}")]
    GpuRequired {
        /// The provider asked for.
        requested: Provider,
        /// The provider that could be had.
        active: Provider,
        /// Why it is not a GPU.
        reason: String,
    },
    /// The model does not reproduce the known answers stored beside it: do not serve it.
    #[error(
        "{}: embedding reference image {image} gave cosine {cosine:.6} to the training network's answer, at least \
         {required} is required; the model file, the runtime or the provider computes something else: export the model again",
        model_dir.display()
    )]
    KnownAnswer {
        /// The model directory.
        model_dir: PathBuf,
        /// Index of the worst reference image.
        image: usize,
        /// Its cosine to the stored embedding.
        cosine: f64,
        /// The cosine that is required.
        required: f64,
    },
    /// There are no reference images to compare with.
    #[error("{}: no reference.safetensors, so there is nothing to verify against; export the model with reference images", model_dir.display())]
    NoReference {
        /// The model directory.
        model_dir: PathBuf,
    },
    /// The reference images or embeddings have another size than the model's.
    #[error("{}: the reference images or embeddings do not have the model's size; export the model again", model_dir.display())]
    ReferenceSize {
        /// The model directory.
        model_dir: PathBuf,
    },
    /// A pixel buffer has the wrong length for the model.
    #[error("{images} images need {expected} pixel values, got {found}")]
    PixelCount {
        /// How many images the caller announced.
        images: usize,
        /// `images * 3 * height * width`.
        expected: usize,
        /// What was passed.
        found: usize,
    },
    /// The bytes are not an image that can be decoded within the limits. The sender's fault.
    #[error(transparent)]
    Decode(#[from] dfml_models::DecodeError),
    /// ONNX Runtime failed while computing. Not the sender's fault.
    #[error("inference failed: {reason}")]
    Inference {
        /// What ONNX Runtime said.
        reason: String,
    },
    /// The queue is full: try again later (HTTP 429).
    #[error("overloaded: {capacity} requests are already waiting for the model")]
    Overloaded {
        /// The queue's capacity.
        capacity: usize,
    },
    /// The batcher has been shut down.
    #[error("the embedding engine is shutting down")]
    Stopped,
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
