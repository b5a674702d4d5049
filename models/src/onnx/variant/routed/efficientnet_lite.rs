//! Inverted bottlenecks of which each image goes through one sub-block: a third of the expanded channels, if K is 3.

use super::super::super::proto::{AttributeProto, GraphProto, NodeProto, float_tensor, int_attribute};
use super::super::VariantError;
use super::super::edit::{Edit, node};
use super::{Replaced, Sorted, missing_node, replace};
use crate::arch::{EfficientNetLite, MbConv};
use crate::weights::{Tensor, TensorMap};

pub(super) fn convert(
    graph: GraphProto,
    net: &EfficientNetLite,
    factorized: &TensorMap,
) -> Result<GraphProto, VariantError> {
    let mut edit = Edit::of(graph);
    let nodes = edit.take_nodes();
    let mut blocks = Vec::new();
    for block in net.blocks() {
        if let Some(gate) = factorized.get(&format!("{}.gate.weight", block.prefix())) {
            blocks.push(Routed::find(&nodes, &block, gate)?);
        }
    }
    for node in nodes {
        edit.push(node);
    }
    let runs: Vec<Replaced> = blocks
        .iter()
        .map(|block| {
            let rest = [&block.expanded, &block.depthwise, &block.activated, &block.project];
            Replaced::new(block.expand.name.clone(), rest.map(|node| node.name.clone()))
        })
        .collect();
    replace(&mut edit, &runs, |edit, block, _| blocks[block].write(edit))?;
    Ok(edit.finish())
}

/// The nodes of a block, in order.
struct Routed<'a> {
    expand: NodeProto,
    expanded: NodeProto,
    depthwise: NodeProto,
    activated: NodeProto,
    project: NodeProto,
    gate: &'a Tensor,
}

impl<'a> Routed<'a> {
    fn find(nodes: &[NodeProto], block: &MbConv, gate: &'a Tensor) -> Result<Routed<'a>, VariantError> {
        let named = |name: String| {
            nodes.iter().find(|node| node.name == name).cloned().ok_or_else(|| missing_node(&name))
        };
        let after = |before: &NodeProto| {
            let user = nodes.iter().find(|node| node.input.first() == before.output.first());
            user.cloned().ok_or_else(|| missing_node(&format!("after {}", before.name)))
        };
        let p = block.prefix();
        let (expand, depthwise) =
            (named(format!("{p}._expand_conv"))?, named(format!("{p}._depthwise_conv"))?);
        Ok(Routed {
            expanded: after(&expand)?,
            activated: after(&depthwise)?,
            project: named(format!("{p}._project_conv"))?,
            expand,
            depthwise,
            gate,
        })
    }

    fn write(&self, edit: &mut Edit) -> Result<(), VariantError> {
        let (input, output) = (&self.expand.input[0], &self.project.output[0]);
        let name = format!("{output}.router");
        let pooled = edit.node("GlobalAveragePool", &format!("{name}.pooled"), &[input], Vec::new());
        let pooled = edit.node("Flatten", &format!("{name}.input"), &[&pooled], Vec::new());
        let sorted = Sorted::by_router(edit, &name, &pooled, self.gate);
        let count = self.gate.shape[0];
        let mut results = Vec::with_capacity(count);
        for k in 0..count {
            let images = sorted.take(edit, &format!("{name}.{k}.images"), input, k);
            let wide = self.rows(edit, &self.expand, &images, k)?;
            let wide = activation(edit, &self.expanded, &wide, k);
            let wide = self.rows(edit, &self.depthwise, &wide, k)?;
            let wide = activation(edit, &self.activated, &wide, k);
            results.push(self.projection(edit, &wide, k)?);
        }
        sorted.put_back(edit, output, &results);
        Ok(())
    }

    /// A convolution's share of output channels.
    fn rows(&self, edit: &mut Edit, conv: &NodeProto, input: &str, k: usize) -> Result<String, VariantError> {
        let (mut shape, weights) = edit.floats(&conv.input[1])?;
        let (_, bias) = edit.floats(&conv.input[2])?;
        let width = shape[0] / self.gate.shape[0];
        let row = weights.len() / shape[0];
        let is_depthwise = shape[1] == 1;
        shape[0] = width;
        let weights = &weights[k * width * row..(k + 1) * width * row];
        let attributes = with_groups(&conv.attribute, if is_depthwise { width } else { 1 });
        Ok(convolution(edit, conv, k, input, &shape, weights, &bias[k * width..(k + 1) * width], attributes))
    }

    /// The projection of a share of its input channels, with as large a share of its shift.
    fn projection(&self, edit: &mut Edit, input: &str, k: usize) -> Result<String, VariantError> {
        let conv = &self.project;
        let (mut shape, weights) = edit.floats(&conv.input[1])?;
        let (_, bias) = edit.floats(&conv.input[2])?;
        let count = self.gate.shape[0];
        let (all, width) = (shape[1], shape[1] / count);
        let weights: Vec<f32> =
            weights.chunks_exact(all).flat_map(|row| row[k * width..(k + 1) * width].to_vec()).collect();
        let bias: Vec<f32> = bias.iter().map(|b| b / count as f32).collect();
        shape[1] = width;
        Ok(convolution(edit, conv, k, input, &shape, &weights, &bias, conv.attribute.clone()))
    }
}

#[allow(clippy::too_many_arguments, reason = "what a convolution is made of")]
fn convolution(
    edit: &mut Edit,
    conv: &NodeProto,
    k: usize,
    input: &str,
    shape: &[usize],
    weights: &[f32],
    bias: &[f32],
    attributes: Vec<AttributeProto>,
) -> String {
    let name = format!("{}.{k}", conv.name);
    let weights = edit.insert(float_tensor(&format!("{name}.weight"), shape, weights));
    let bias = edit.insert(float_tensor(&format!("{name}.bias"), &[bias.len()], bias));
    edit.node("Conv", &name, &[input, &weights, &bias], attributes)
}

fn activation(edit: &mut Edit, function: &NodeProto, input: &str, k: usize) -> String {
    let name = format!("{}.{k}", function.name);
    let mut inputs = vec![input];
    inputs.extend(function.input[1..].iter().map(String::as_str));
    edit.push(node(&function.op_type, &name, &inputs, &[&name], function.attribute.clone()));
    name
}

fn with_groups(attributes: &[AttributeProto], groups: usize) -> Vec<AttributeProto> {
    let group = int_attribute("group", groups as i64);
    attributes.iter().filter(|attribute| attribute.name != "group").cloned().chain([group]).collect()
}
