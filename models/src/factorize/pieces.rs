//! Which tensors of a network are cut, along what, and what their parts are called.

use super::cut::Cut;
use crate::arch::{Architecture, EfficientNetLite, ResNet, TensorSpec, Vit};

/// How a tensor of the dense network goes to the factorised one.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) dense: TensorSpec,
    /// The names of its parts and how it is cut; `None` if it is shared.
    pub(super) parts: Option<(Vec<String>, Cut)>,
}

impl Piece {
    /// What the factorised network has in its place.
    pub(super) fn factorized(&self) -> Vec<TensorSpec> {
        match &self.parts {
            None => vec![self.dense.clone()],
            Some((names, cut)) => {
                // An architecture that has not been checked may have 0 sub-blocks.
                let shape = cut.part_shape(&self.dense.shape, names.len().max(1));
                names.iter().map(|name| TensorSpec { name: name.clone(), shape: shape.clone() }).collect()
            }
        }
    }
}

/// The plan for all tensors, read in one direction or the other.
pub(super) fn pieces(architecture: &Architecture) -> Vec<Piece> {
    let parts = |name: &str| match architecture {
        _ if architecture.sub_blocks() == 1 => None,
        Architecture::Vit(net) => vit(net, name),
        Architecture::EfficientnetLite(net) => lite(net, name),
        Architecture::Resnet(net) => resnet(net, name),
    };
    let piece = |dense: TensorSpec| Piece { parts: parts(&dense.name), dense };
    architecture.dense_tensors().into_iter().map(piece).collect()
}

/// An attention's heads and an MLP's hidden units are cut in K groups. Names and values follow the official conversion of
/// DFML, which divides the output biases by K.
fn vit(net: &Vit, name: &str) -> Option<(Vec<String>, Cut)> {
    let (prefix, rest) = after_numbers(name, "blocks.", 1)?;
    let (cut, layer, tail) = match rest.rsplit_once('.')? {
        ("attn.qkv", tail) => (Cut::Thirds, "attn.qkv{}", tail),
        ("attn.proj", "weight") => (Cut::Columns, "attn.proj{}", "weight"),
        ("attn.proj", tail) => (Cut::Share, "attn.proj{}", tail),
        ("mlp.fc1", tail) => (Cut::Rows, "mlp{}.fc1", tail),
        ("mlp.fc2", "weight") => (Cut::Columns, "mlp{}.fc2", "weight"),
        ("mlp.fc2", tail) => (Cut::Share, "mlp{}.fc2", tail),
        _ => return None,
    };
    let part = |n: usize| format!("{prefix}.{}.{tail}", layer.replace("{}", &n.to_string()));
    Some(((1..=net.sub_blocks).map(part).collect(), cut))
}

/// A block's expanded channels are cut in K slices, each with its own expand, depthwise and project convolution. Between
/// the two 1x1 convolutions every channel is on its own, so this is exact. The last normalisation is shared.
fn lite(net: &EfficientNetLite, name: &str) -> Option<(Vec<String>, Cut)> {
    let (prefix, rest) = after_numbers(name, "_blocks.", 1)?;
    let block = net.blocks().into_iter().find(|block| block.prefix() == prefix)?;
    if !block.is_factorized(net.sub_blocks) || rest.starts_with("_bn2") {
        return None;
    }
    let cut = if rest.starts_with("_project") { Cut::Columns } else { Cut::Rows };
    Some((numbered(prefix, rest, net.sub_blocks), cut))
}

/// The channels between a bottleneck's 3x3 and its last convolution are cut in K slices; the first convolution and the
/// last normalisation are shared.
fn resnet(net: &ResNet, name: &str) -> Option<(Vec<String>, Cut)> {
    let (prefix, rest) = after_numbers(name, "layer", 2)?;
    let cut = match rest {
        "conv2.weight" => Cut::Rows,
        "conv3.weight" => Cut::Columns,
        _ if rest.starts_with("bn2.") => Cut::Rows,
        _ => return None,
    };
    Some((numbered(prefix, rest, net.sub_blocks), cut))
}

/// `{prefix}.sub1.{rest}` and so on.
fn numbered(prefix: &str, rest: &str, k: usize) -> Vec<String> {
    (1..=k).map(|i| format!("{prefix}.sub{i}.{rest}")).collect()
}

/// Splits `name`, which begins with `start` and `count` numbers, after the last of them:
/// `_blocks.3._bn1.bias` -> (`_blocks.3`, `_bn1.bias`).
fn after_numbers<'a>(name: &'a str, start: &str, count: usize) -> Option<(&'a str, &'a str)> {
    let mut at = start.len();
    let mut left = name.strip_prefix(start)?;
    for _ in 0..count {
        let (number, rest) = left.split_once('.')?;
        number.parse::<usize>().ok()?;
        at += number.len() + 1;
        left = rest;
    }
    Some((&name[..at - 1], left))
}
