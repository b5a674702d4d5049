//! What a dfml model is: architectures, weight files, factorisation into sub-blocks, the image transform, the
//! manifest, and the ONNX export. No machine-learning runtime, no network, no async.
//!
//! - [`arch`]: which networks there are, with the names and shapes of their tensors.
//! - [`weights`]: reading PyTorch and safetensors files, writing safetensors.
//! - [`mod@factorize`]: dense weights to sub-blocks and back, preserving the function.
//! - [`transform`]: from an image file's bytes to a network's input; the one code that training and serving share.
//! - [`manifest`] and [`reference`](mod@reference): the model directory that training writes and serving reads.
//! - [`export`] and [`onnx`]: how it is written.
//! - [`calibration`]: from a similarity to the probability that two pictures show the same product.
//! - [`pca`]: principal components, the start of an embedding layer.

pub mod arch;
mod atomic;
mod cache;
pub mod calibration;
pub mod export;
pub mod factorize;
pub mod manifest;
pub mod onnx;
pub mod pca;
pub mod reference;
pub mod transform;
pub mod weights;

pub use arch::{
    Architecture, ArchitectureError, EfficientNetLite, LiteVariant, MbConv, Preset, ResNet, TensorSpec, Vit,
    preset,
};
pub use atomic::write_atomically;
pub use cache::cache_dir;
pub use calibration::Calibration;
pub use export::{ExportError, ExportRequest, write_model_dir};
pub use factorize::{FactorizeError, Inventory, WeightForm, factorize, fold, to_dense, to_factorized};
pub use manifest::{
    Effort, Evaluation, FileHash, Files, Lineage, Manifest, ManifestError, Parity, Precision, Variant,
    sha256_file, sha256_hex,
};
pub use pca::{Pca, PcaError};
pub use reference::{Reference, ReferenceError};
pub use transform::{
    CropBox, CropBoxError, DecodeError, DecodeLimits, Interpolation, Picture, PixelScale, Region, RgbImage8,
    Transform, TransformError, decode,
};
pub use weights::{Tensor, TensorMap, WeightsError, load_metadata, load_weights, save_safetensors};
