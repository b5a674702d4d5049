//! Writing networks as ONNX, from the architecture and its dense weights.

mod efficientnet_lite;
mod graph;
mod proto;
mod vit;

use prost::Message;

use crate::arch::Architecture;
use crate::transform::Transform;
use crate::weights::TensorMap;

/// Name of the network's input: f32 `[batch, 3, height, width]`, normalised.
pub const INPUT: &str = "pixels";
/// Name of the network's output: f32 `[batch, dim]`, of unit length.
pub const OUTPUT: &str = "embedding";

/// The bytes of an ONNX file. The weights are dense and complete (checked by the export).
pub(crate) fn model(architecture: &Architecture, dense: &TensorMap, transform: &Transform) -> Vec<u8> {
    let (height, width) = (transform.crop_height as usize, transform.crop_width as usize);
    let graph = match architecture {
        Architecture::EfficientnetLite(net) => efficientnet_lite::graph(net, dense, height, width),
        Architecture::Vit(net) => vit::graph(net, dense),
    };
    proto::model(graph).encode_to_vec()
}
