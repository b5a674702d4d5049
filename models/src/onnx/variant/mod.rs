//! Other forms of an exported network: half precision, 8-bit integers, routed. Each is made from the ONNX file that the
//! exporter has written, whatever the architecture.

mod edit;
mod half_precision;
mod int8;
mod observe;
mod quantized;
mod routed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message;

use super::proto::{self, GraphProto, ModelProto};
use crate::arch::Architecture;
use crate::{atomic::write_atomically, weights::TensorMap};

/// The least and greatest value of every tensor that is to be 8 bits wide, by name; see [`Network::observed`].
pub type Ranges = BTreeMap<String, (f32, f32)>;

/// Why a network has no such form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VariantError {
    /// The file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is no ONNX file.
    #[error("{}: not an ONNX file: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is not a graph as this exporter writes it.
    #[error("the network cannot be changed: {reason}")]
    Graph {
        /// What was not found.
        reason: String,
    },
    /// No images were looked at for a tensor that needs them.
    #[error("the network needs calibration images: nothing is known about the values of {tensor}")]
    NotCalibrated {
        /// The tensor.
        tensor: String,
    },
    /// A routed form needs routers.
    #[error("the weights have no router {name}: give the checkpoint of a DFML training run")]
    NoRouter {
        /// The missing tensor.
        name: String,
    },
}

/// A network out of an ONNX file that this crate has written.
#[derive(Clone)]
pub struct Network(ModelProto);

impl Network {
    /// Reads an ONNX file.
    ///
    /// # Errors
    /// [`VariantError::Io`] and [`VariantError::Parse`].
    pub fn read(path: impl AsRef<Path>) -> Result<Network, VariantError> {
        let path = path.as_ref();
        let parse = |reason: String| VariantError::Parse { path: path.to_owned(), reason };
        let bytes = fs_err::read(path)?;
        let model = ModelProto::decode(bytes.as_slice()).map_err(|error| parse(error.to_string()))?;
        if model.graph.is_none() {
            return Err(parse("it holds no graph".to_owned()));
        }
        Ok(Network(model))
    }

    /// Writes an ONNX file, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> std::io::Result<()> {
        write_atomically(path.as_ref(), &self.0.encode_to_vec())
    }

    /// Weights and arithmetic in 16-bit floating point, for GPUs; input, output and the bringing to unit length stay 32 bits
    /// wide. Elsewhere it computes the same, but not faster.
    pub fn to_half(&self) -> Network {
        self.with_graph(half_precision::convert(self.graph().clone()))
    }

    /// Multiplications in 8-bit integers, with a scale of its own for every output channel of every weight.
    ///
    /// Convolutions have fixed scales for what flows between them, from `ranges`; matrix products over tokens measure
    /// theirs anew for each batch and need none.
    ///
    /// # Errors
    /// [`VariantError::NotCalibrated`] if `ranges` lacks a tensor.
    pub fn to_int8(&self, ranges: &Ranges) -> Result<Network, VariantError> {
        Ok(self.with_graph(int8::convert(self.graph().clone(), ranges)?))
    }

    /// The same network with two more outputs for every tensor whose range [`Network::to_int8`] wants to know, `min:NAME`
    /// and `max:NAME`, each a single number over the batch; and those names. Empty if none is needed.
    pub fn observed(&self) -> (Network, Vec<String>) {
        let (graph, names) = observe::add_ranges(self.graph().clone());
        (self.with_graph(graph), names)
    }

    /// Routers in the graph: per image (convolutional networks) or token (transformers), only the sub-block that its router
    /// chooses is computed.
    ///
    /// `factorized` are the weights with the routers, in sub-blocks.
    ///
    /// # Errors
    /// [`VariantError::NoRouter`], and [`VariantError::Graph`] for an architecture that has no routed form.
    pub fn to_routed(
        &self,
        architecture: &Architecture,
        factorized: &TensorMap,
    ) -> Result<Network, VariantError> {
        Ok(self.with_graph(routed::convert(self.graph().clone(), architecture, factorized)?))
    }

    fn graph(&self) -> &GraphProto {
        self.0.graph.as_ref().expect("reading refuses a file without a graph")
    }

    fn with_graph(&self, graph: GraphProto) -> Network {
        Network(proto::model(graph))
    }
}
