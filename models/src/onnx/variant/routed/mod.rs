//! Routers in the graph: rows (images or tokens) are sorted by the sub-block that their router chooses, each sub-block
//! computes its own rows, and the results are put back in order.

mod efficientnet_lite;
mod vit;

use std::collections::HashSet;

use super::super::proto::{GraphProto, NodeProto, float_tensor, int_attribute, int_scalar, int_tensor};
use super::VariantError;
use super::edit::Edit;
use crate::arch::Architecture;
use crate::weights::{Tensor, TensorMap};

pub(super) fn convert(
    graph: GraphProto,
    architecture: &Architecture,
    factorized: &TensorMap,
) -> Result<GraphProto, VariantError> {
    // A block whose training was frozen has no router, and stays whole; a network without any was not trained for this.
    if let Some(gate) = architecture.gate_tensors().first()
        && !architecture.gate_tensors().iter().any(|gate| factorized.contains_key(&gate.name))
    {
        return Err(VariantError::NoRouter { name: gate.name.clone() });
    }
    match architecture {
        Architecture::EfficientnetLite(net) => efficientnet_lite::convert(graph, net, factorized),
        Architecture::Vit(net) => vit::convert(graph, net, factorized),
        Architecture::Resnet(_) => {
            Err(VariantError::Graph { reason: "there is no routed form of a ResNet yet".to_owned() })
        }
    }
}

/// A run of nodes that becomes something else.
struct Replaced {
    /// Name of the first one, in whose place the new nodes are put.
    first: String,
    /// Names of the others, which are left out.
    rest: HashSet<String>,
}

impl Replaced {
    fn new(first: String, rest: impl IntoIterator<Item = String>) -> Replaced {
        Replaced { first, rest: rest.into_iter().collect() }
    }
}

/// Walks through the nodes and lets `write` put new ones in the place of each replaced run, given its first node.
fn replace(
    edit: &mut Edit,
    runs: &[Replaced],
    mut write: impl FnMut(&mut Edit, usize, &NodeProto) -> Result<(), VariantError>,
) -> Result<(), VariantError> {
    let mut found = 0;
    for node in edit.take_nodes() {
        if let Some(run) = runs.iter().position(|run| run.first == node.name) {
            found += 1;
            write(edit, run, &node)?;
        } else if !runs.iter().any(|run| run.rest.contains(&node.name)) {
            edit.push(node);
        }
    }
    if found != runs.len() {
        let missing = runs.iter().map(|run| run.first.as_str()).find(|first| !edit.defines(first));
        return Err(missing_node(missing.unwrap_or_default()));
    }
    Ok(())
}

fn missing_node(name: &str) -> VariantError {
    VariantError::Graph { reason: format!("the graph has no node {name}") }
}

/// Rows by their sub-block.
struct Sorted {
    /// For each sub-block the positions of its rows.
    rows: Vec<String>,
    /// For each row its position among the sorted ones.
    back: String,
}

impl Sorted {
    /// By the router `gate` `[K, width]` on `input` `[rows, width]`: the greatest product wins.
    fn by_router(edit: &mut Edit, name: &str, input: &str, gate: &Tensor) -> Sorted {
        let (count, width) = (gate.shape[0], gate.shape[1]);
        let turned: Vec<f32> =
            (0..width).flat_map(|column| (0..count).map(move |k| gate.data[k * width + column])).collect();
        let gate = edit.insert(float_tensor(&format!("{name}.weight"), &[width, count], &turned));
        let scores = edit.node("MatMul", &format!("{name}.scores"), &[input, &gate], Vec::new());
        let best = vec![int_attribute("axis", 1), int_attribute("keepdims", 0)];
        let choice = edit.node("ArgMax", &format!("{name}.choice"), &[&scores], best);
        let axis = edit.insert(int_tensor(&format!("{name}.axis"), &[0]));
        let rows: Vec<String> = (0..count)
            .map(|k| {
                let name = format!("{name}.{k}");
                let number = edit.insert(int_scalar(&format!("{name}.number"), k as i64));
                let is_chosen =
                    edit.node("Equal", &format!("{name}.is_chosen"), &[&choice, &number], Vec::new());
                let found = edit.node("NonZero", &format!("{name}.found"), &[&is_chosen], Vec::new());
                edit.node("Squeeze", &format!("{name}.rows"), &[&found, &axis], Vec::new())
            })
            .collect();
        let order = concat(edit, &format!("{name}.order"), &rows);
        // The inverse of the order: at place order[i] stands i.
        let shape = edit.node("Shape", &format!("{name}.shape"), &[&choice], Vec::new());
        let total = edit.node("Squeeze", &format!("{name}.total"), &[&shape, &axis], Vec::new());
        let [zero, one] =
            [0, 1].map(|number| edit.insert(int_scalar(&format!("{name}.range.{number}"), number)));
        let places = edit.node("Range", &format!("{name}.places"), &[&zero, &total, &one], Vec::new());
        let back =
            edit.node("ScatterElements", &format!("{name}.back"), &[&order, &order, &places], Vec::new());
        Sorted { rows, back }
    }

    /// The rows of `input` that belong to sub-block `k`.
    fn take(&self, edit: &mut Edit, name: &str, input: &str, k: usize) -> String {
        edit.node("Gather", name, &[input, &self.rows[k]], vec![int_attribute("axis", 0)])
    }

    /// The sub-blocks' results in the order of the rows, as `name`.
    fn put_back(&self, edit: &mut Edit, name: &str, results: &[String]) -> String {
        let sorted = concat(edit, &format!("{name}.sorted"), results);
        edit.node("Gather", name, &[&sorted, &self.back], vec![int_attribute("axis", 0)])
    }
}

fn concat(edit: &mut Edit, name: &str, parts: &[String]) -> String {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    edit.node("Concat", name, &parts, vec![int_attribute("axis", 0)])
}
