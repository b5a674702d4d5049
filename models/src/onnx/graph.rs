//! Putting a graph together node by node, with unique names for what flows between them.

use super::proto::{
    AttributeProto, GraphProto, NodeProto, batched_value, float_attribute, float_tensor, int_attribute,
    int_tensor, ints_attribute,
};
use super::{INPUT, OUTPUT};
use crate::arch::L2_EPS;

/// The name of a value in the graph: an input, a constant or a node's output.
#[derive(Clone, Debug)]
pub(super) struct Value(String);

/// Zeros around an image, in ONNX's order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pads {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) bottom: usize,
    pub(super) right: usize,
}

/// A graph under construction.
pub(super) struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    /// A graph that takes normalised images of the given size.
    pub(super) fn new(name: &str, height: usize, width: usize) -> (GraphBuilder, Value) {
        let input = vec![batched_value(INPUT, &[3, height, width])];
        let graph = GraphProto { name: name.to_owned(), input, ..GraphProto::default() };
        (GraphBuilder { graph }, Value(INPUT.to_owned()))
    }

    /// A graph that takes rows of the given length.
    pub(super) fn of_rows(name: &str, length: usize) -> (GraphBuilder, Value) {
        let input = vec![batched_value(INPUT, &[length])];
        let graph = GraphProto { name: name.to_owned(), input, ..GraphProto::default() };
        (GraphBuilder { graph }, Value(INPUT.to_owned()))
    }

    /// A single-precision constant; no extents make a scalar.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], data: &[f32]) -> Value {
        self.graph.initializer.push(float_tensor(name, shape, data));
        Value(name.to_owned())
    }

    /// A constant vector of integers.
    pub(super) fn ints(&mut self, name: &str, data: &[i64]) -> Value {
        self.graph.initializer.push(int_tensor(name, data));
        Value(name.to_owned())
    }

    /// A node with one output, which gets the node's name.
    pub(super) fn node(
        &mut self,
        op: &str,
        name: impl Into<String>,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
    ) -> Value {
        let name = name.into();
        let output = Value(name.clone());
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: vec![name.clone()],
            name,
            op_type: op.to_owned(),
            attribute: attributes,
        });
        output
    }

    /// A two-dimensional convolution with bias; `groups` equal to the channels makes it depthwise.
    pub(super) fn conv(&mut self, name: &str, input: &Value, conv: &Conv<'_>) -> Value {
        let weight = self.floats(&format!("{name}.weight"), conv.shape, conv.weight);
        let bias = self.floats(&format!("{name}.bias"), &[conv.shape[0]], conv.bias);
        let Pads { top, left, bottom, right } = conv.pads;
        let attributes = vec![
            ints_attribute("kernel_shape", &[conv.shape[2] as i64, conv.shape[3] as i64]),
            ints_attribute("strides", &[conv.stride as i64; 2]),
            ints_attribute("pads", &[top, left, bottom, right].map(|n| n as i64)),
            int_attribute("group", conv.groups as i64),
        ];
        self.node("Conv", name, &[input, &weight, &bias], attributes)
    }

    /// `input * weight^T + bias` on rows; weight `[out, in]`.
    pub(super) fn linear(
        &mut self,
        name: &str,
        input: &Value,
        shape: &[usize],
        weight: &[f32],
        bias: &[f32],
    ) -> Value {
        let weight = self.floats(&format!("{name}.weight"), shape, weight);
        let bias = self.floats(&format!("{name}.bias"), &shape[..1], bias);
        self.node("Gemm", name, &[input, &weight, &bias], vec![int_attribute("transB", 1)])
    }

    /// Layer normalisation over the last dimension.
    pub(super) fn layer_norm(
        &mut self,
        name: &str,
        input: &Value,
        eps: f32,
        weight: &[f32],
        bias: &[f32],
    ) -> Value {
        let scale = self.floats(&format!("{name}.weight"), &[weight.len()], weight);
        let bias = self.floats(&format!("{name}.bias"), &[bias.len()], bias);
        let attributes = vec![int_attribute("axis", -1), float_attribute("epsilon", eps)];
        self.node("LayerNormalization", name, &[input, &scale, &bias], attributes)
    }

    /// Makes rows the graph's output as they are.
    pub(super) fn finish_plainly(mut self, rows: &Value, length: usize) -> GraphProto {
        self.graph.output = vec![batched_value(&rows.0, &[length])];
        self.graph
    }

    /// Brings each row to unit length and makes it the graph's output.
    pub(super) fn finish(mut self, rows: &Value, dim: usize) -> GraphProto {
        let axes = self.ints("l2.axes", &[1]);
        let eps = self.floats("l2.eps", &[], &[L2_EPS]);
        let squares = self.node("Mul", "l2.squares", &[rows, rows], Vec::new());
        let sum = self.node("ReduceSum", "l2.sum", &[&squares, &axes], vec![int_attribute("keepdims", 1)]);
        let shifted = self.node("Add", "l2.shifted", &[&sum, &eps], Vec::new());
        let norm = self.node("Sqrt", "l2.norm", &[&shifted], Vec::new());
        self.node("Div", OUTPUT, &[rows, &norm], Vec::new());
        self.graph.output = vec![batched_value(OUTPUT, &[dim])];
        self.graph
    }
}

/// What a convolution needs beside its input.
pub(super) struct Conv<'a> {
    /// `[out, in / groups, height, width]`.
    pub(super) shape: &'a [usize],
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) stride: usize,
    pub(super) pads: Pads,
    pub(super) groups: usize,
}
