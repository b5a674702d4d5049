//! Finding one's way in a finished graph, and changing it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use super::VariantError;

/// A graph taken apart, so that nodes and constants can be looked up and replaced.
pub(super) struct Edit {
    graph: GraphProto,
    constants: BTreeMap<String, TensorProto>,
    /// Nodes in a new order; those that were there come first in theirs.
    nodes: Vec<NodeProto>,
}

impl Edit {
    pub(super) fn of(mut graph: GraphProto) -> Edit {
        let constants = graph.initializer.drain(..).map(|tensor| (tensor.name.clone(), tensor)).collect();
        let nodes = graph.node.drain(..).collect();
        Edit { graph, constants, nodes }
    }

    /// The nodes, to be walked through while new ones are put in their place.
    pub(super) fn take_nodes(&mut self) -> Vec<NodeProto> {
        std::mem::take(&mut self.nodes)
    }

    pub(super) fn push(&mut self, node: NodeProto) {
        self.nodes.push(node);
    }

    pub(super) fn constant(&self, name: &str) -> Option<&TensorProto> {
        self.constants.get(name)
    }

    /// A constant that has to be there and be single precision: its shape and values.
    pub(super) fn floats(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), VariantError> {
        let tensor = self.constants.get(name).and_then(|tensor| Some((tensor.shape(), tensor.floats()?)));
        tensor.ok_or_else(|| VariantError::Graph { reason: format!("there is no constant {name}") })
    }

    pub(super) fn constants_mut(&mut self) -> impl Iterator<Item = &mut TensorProto> {
        self.constants.values_mut()
    }

    /// Whether a node that has been put in place yields this value.
    pub(super) fn defines(&self, value: &str) -> bool {
        self.nodes.iter().any(|node| node.output.iter().any(|output| output == value))
    }

    /// The first input of a node that has been put in place.
    pub(super) fn input_of(&self, name: &str) -> Result<String, VariantError> {
        let node = self.nodes.iter().find(|node| node.name == name);
        let input = node.and_then(|node| node.input.first()).cloned();
        input.ok_or_else(|| VariantError::Graph { reason: format!("the graph has no node {name}") })
    }

    /// Adds a constant and returns its name.
    pub(super) fn insert(&mut self, tensor: TensorProto) -> String {
        let name = tensor.name.clone();
        self.constants.insert(name.clone(), tensor);
        name
    }

    /// Adds a node with one output of the node's name, and returns that.
    pub(super) fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.push(node(op, name, inputs, &[name], attributes));
        name.to_owned()
    }

    /// Puts the graph together again, without the constants that nothing uses any more.
    pub(super) fn finish(mut self) -> GraphProto {
        let used: HashSet<&String> = self.nodes.iter().flat_map(|node| &node.input).collect();
        self.constants.retain(|name, _| used.contains(name));
        self.graph.initializer = self.constants.into_values().collect();
        self.graph.node = self.nodes;
        self.graph
    }

    /// The graph's outputs.
    pub(super) fn outputs_mut(&mut self) -> &mut Vec<super::super::proto::ValueInfoProto> {
        &mut self.graph.output
    }
}

/// A node.
pub(super) fn node(
    op: &str,
    name: &str,
    inputs: &[&str],
    outputs: &[&str],
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        input: owned(inputs),
        output: owned(outputs),
        name: name.to_owned(),
        op_type: op.to_owned(),
        attribute,
    }
}

/// Which nodes use a value, by position.
pub(super) fn users(nodes: &[NodeProto]) -> HashMap<&str, Vec<usize>> {
    let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
    for (position, node) in nodes.iter().enumerate() {
        for input in &node.input {
            users.entry(input).or_default().push(position);
        }
    }
    users
}
