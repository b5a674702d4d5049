//! Writing networks as ONNX, from the architecture and its dense weights.

mod conv_net;
mod efficientnet_lite;
mod graph;
mod proto;
mod resnet;
mod variant;
mod vit;

use prost::Message;

pub use variant::{Network, Ranges, VariantError};

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
        Architecture::Resnet(net) => resnet::graph(net, dense, height, width),
    };
    proto::model(graph).encode_to_vec()
}

/// The bytes of an ONNX file that multiplies [`INPUT`], `[rows, inner]`, by a constant matrix `[inner, columns]`: what the
/// speed of a network is held against.
pub fn matrix_product(inner: usize, columns: usize) -> Vec<u8> {
    let (mut graph, rows) = graph::GraphBuilder::of_rows("matrix_product", inner);
    let values: Vec<f32> = (0..inner * columns).map(|i| (i % 89) as f32 / 89.0 - 0.5).collect();
    let matrix = graph.floats("matrix", &[inner, columns], &values);
    let product = graph.node("MatMul", "product", &[&rows, &matrix], Vec::new());
    proto::model(graph.finish_plainly(&product, columns)).encode_to_vec()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::arch::{EfficientNetLite, ResNet, Vit};
    use crate::weights::Tensor;

    fn written(architecture: &Architecture, transform: &Transform) -> proto::GraphProto {
        let zeros = |spec: crate::TensorSpec| (spec.name, Tensor::full(spec.shape, 1.0));
        let weights = architecture.dense_tensors().into_iter().map(zeros).collect();
        let bytes = model(architecture, &weights, transform);
        proto::ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap()
    }

    /// What a runtime checks first: one definition per name, before its first use, and no constant in vain.
    fn assert_well_formed(graph: &proto::GraphProto) {
        let mut defined: HashSet<&str> = HashSet::from([INPUT]);
        for constant in &graph.initializer {
            assert!(defined.insert(&constant.name), "{} is defined twice", constant.name);
        }
        let mut used = HashSet::new();
        for node in &graph.node {
            for input in &node.input {
                assert!(defined.contains(input.as_str()), "{} uses {input} before it is defined", node.name);
                used.insert(input.as_str());
            }
            for output in &node.output {
                assert!(defined.insert(output), "{output} is defined twice");
            }
        }
        defined.remove(OUTPUT);
        let unused: Vec<_> = defined.difference(&used).collect();
        assert!(unused.is_empty(), "nothing uses {unused:?}");
    }

    #[test]
    fn graphs_are_well_formed() {
        for embedding_dim in [None, Some(16)] {
            let net = EfficientNetLite { embedding_dim, ..EfficientNetLite::lite0() };
            let graph = written(&Architecture::EfficientnetLite(net), &Transform::efficientnet_lite(64));
            assert_well_formed(&graph);
            let count = |op: &str| graph.node.iter().filter(|node| node.op_type == op).count();
            assert_eq!((count("Conv"), count("Clip"), count("Add")), (49, 33, 9 + 1));
        }
        for distilled in [false, true] {
            let embedding_dim = distilled.then_some(5);
            let net = Vit {
                distilled,
                embedding_dim,
                depth: 2,
                dim: 12,
                mlp_hidden: 24,
                ..Vit::deit_small_distilled()
            };
            assert_well_formed(&written(&Architecture::Vit(net), &Transform::imagenet(224, 224)));
        }
        for embedding_dim in [None, Some(16)] {
            let net = ResNet { width: 8, embedding_dim, ..ResNet::resnet50() };
            let graph = written(&Architecture::Resnet(net), &Transform::imagenet(64, 64));
            assert_well_formed(&graph);
            let count = |op: &str| graph.node.iter().filter(|node| node.op_type == op).count();
            assert_eq!((count("Conv"), count("Relu"), count("Add")), (53, 49, 16 + 1));
        }
    }
}
