//! Outputs that tell the range of what flows through a network.

use super::super::proto::{GraphProto, int_attribute, scalar_value};
use super::edit::Edit;
use super::quantized::plan;

pub(super) fn add_ranges(graph: GraphProto) -> (GraphProto, Vec<String>) {
    let mut edit = Edit::of(graph);
    let nodes = edit.take_nodes();
    let names: Vec<String> = plan(&edit, &nodes).tensors.into_iter().collect();
    for node in nodes {
        edit.push(node);
    }
    for name in &names {
        for (op, end) in [("ReduceMin", "min"), ("ReduceMax", "max")] {
            let output = format!("{end}:{name}");
            edit.node(op, &output, &[name.as_str()], vec![int_attribute("keepdims", 0)]);
            edit.outputs_mut().push(scalar_value(&output));
        }
    }
    (edit.finish(), names)
}
