//! The part of the ONNX protobuf (onnx.proto3) that the exporter writes; field numbers are the format's.

use prost::Message;

/// Version of the file format; 9 is the first that may hold operator set 20.
const IR_VERSION: i64 = 9;
/// Version of the operator set: 20 has LayerNormalization (17) and Gelu (20).
const OPERATOR_SET: i64 = 20;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetIdProto>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributeProto {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(float, optional, tag = "2")]
    pub(super) f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(super) i: Option<i64>,
    #[prost(int64, repeated, tag = "8")]
    pub(super) ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    pub(super) kind: i32,
}

/// `AttributeProto.AttributeType`.
const ATTRIBUTE_FLOAT: i32 = 1;
const ATTRIBUTE_INT: i32 = 2;
const ATTRIBUTE_INTS: i32 = 7;

/// `TensorProto.DataType`.
pub(super) const DATA_FLOAT: i32 = 1;
pub(super) const DATA_UINT8: i32 = 2;
pub(super) const DATA_INT8: i32 = 3;
pub(super) const DATA_INT32: i32 = 6;
const DATA_INT64: i32 = 7;
pub(super) const DATA_HALF: i32 = 10;

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    #[prost(oneof = "Dimension", tags = "1, 2")]
    value: Option<Dimension>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Dimension {
    #[prost(int64, tag = "1")]
    Fixed(i64),
    #[prost(string, tag = "2")]
    Named(String),
}

/// A file that holds one graph.
pub(super) fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "dfml".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }],
    }
}

/// Constants of any type, in the file's byte order (little-endian).
pub(super) fn tensor(name: &str, shape: &[usize], data_type: i32, raw_data: Vec<u8>) -> TensorProto {
    let dims = shape.iter().map(|extent| *extent as i64).collect();
    TensorProto { dims, data_type, name: name.to_owned(), raw_data }
}

/// Single-precision constants.
pub(super) fn float_tensor(name: &str, shape: &[usize], data: &[f32]) -> TensorProto {
    tensor(name, shape, DATA_FLOAT, data.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// Integer constants: shapes and positions.
pub(super) fn int_tensor(name: &str, data: &[i64]) -> TensorProto {
    tensor(name, &[data.len()], DATA_INT64, data.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// One integer constant, without dimensions.
pub(super) fn int_scalar(name: &str, value: i64) -> TensorProto {
    tensor(name, &[], DATA_INT64, value.to_le_bytes().to_vec())
}

impl TensorProto {
    /// The extents, outermost first.
    pub(super) fn shape(&self) -> Vec<usize> {
        self.dims.iter().map(|extent| usize::try_from(*extent).unwrap_or(0)).collect()
    }

    /// Single-precision values; `None` if they are of another type.
    pub(super) fn floats(&self) -> Option<Vec<f32>> {
        let values = self.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        (self.data_type == DATA_FLOAT).then(|| values.collect())
    }
}

/// A single-precision input or output whose first dimension is the batch.
pub(super) fn batched_value(name: &str, rest: &[usize]) -> ValueInfoProto {
    let batch = Dimension::Named("batch".to_owned());
    let fixed = rest.iter().map(|extent| Dimension::Fixed(*extent as i64));
    let dim =
        std::iter::once(batch).chain(fixed).map(|value| DimensionProto { value: Some(value) }).collect();
    let tensor_type = TensorTypeProto { elem_type: DATA_FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), kind: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// A single-precision output with no dimensions.
pub(super) fn scalar_value(name: &str) -> ValueInfoProto {
    let tensor_type =
        TensorTypeProto { elem_type: DATA_FLOAT, shape: Some(TensorShapeProto { dim: Vec::new() }) };
    ValueInfoProto { name: name.to_owned(), kind: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

pub(super) fn float_attribute(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f: Some(value), i: None, ints: Vec::new(), kind: ATTRIBUTE_FLOAT }
}

pub(super) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f: None, i: Some(value), ints: Vec::new(), kind: ATTRIBUTE_INT }
}

pub(super) fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f: None, i: None, ints: values.to_vec(), kind: ATTRIBUTE_INTS }
}
