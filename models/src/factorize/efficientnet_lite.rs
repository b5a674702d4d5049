//! EfficientNet-Lite: a block's expanded channels are cut in K slices, each with its own expand, depthwise and
//! project convolution. Between the two 1x1 convolutions every channel is on its own, so this is exact.

use super::{FactorizeError, Source, Split};
use crate::arch::{EfficientNetLite, TensorSpec};
use crate::weights::TensorMap;

/// How a tensor of the dense network goes to the factorised one.
struct Piece {
    dense: TensorSpec,
    /// The names of its parts and along what it is cut; `None` if it is shared.
    parts: Option<(Vec<String>, Split)>,
}

/// The plan for all tensors, read in one direction or the other.
fn pieces(net: &EfficientNetLite) -> Vec<Piece> {
    let split: std::collections::HashMap<String, usize> = net
        .blocks()
        .iter()
        .filter(|block| block.is_factorized(net.sub_blocks))
        .map(|block| (block.prefix(), net.sub_blocks))
        .collect();
    net.dense_tensors()
        .into_iter()
        .map(|dense| {
            let parts = block_and_rest(&dense.name)
                .and_then(|(prefix, rest)| Some((prefix, rest, *split.get(prefix)?)))
                .filter(|(_, rest, _)| !rest.starts_with("_bn2"))
                .map(|(prefix, rest, k)| {
                    let names = (1..=k).map(|i| format!("{prefix}.sub{i}.{rest}")).collect();
                    let along = if rest.starts_with("_project") { Split::Columns } else { Split::Rows };
                    (names, along)
                });
            Piece { dense, parts }
        })
        .collect()
}

/// `_blocks.3._bn1.bias` -> (`_blocks.3`, `_bn1.bias`).
fn block_and_rest(name: &str) -> Option<(&str, &str)> {
    let index = name.strip_prefix("_blocks.")?;
    let (index, rest) = index.split_once('.')?;
    Some((&name[.."_blocks.".len() + index.len()], rest))
}

pub(super) fn factorize(net: &EfficientNetLite, dense: &mut Source<'_>) -> Result<TensorMap, FactorizeError> {
    let mut out = TensorMap::new();
    for piece in pieces(net) {
        let Some((names, along)) = &piece.parts else {
            dense.copy(&piece.dense, &mut out)?;
            continue;
        };
        let tensor = dense.get(&piece.dense.name, &piece.dense.shape)?;
        let len = match along {
            Split::Rows => tensor.shape[0],
            Split::Columns => tensor.shape[1],
        } / names.len();
        for (i, name) in names.iter().enumerate() {
            out.insert(name.clone(), along.cut(tensor, i * len, len));
        }
    }
    Ok(out)
}

pub(super) fn fold(net: &EfficientNetLite, factorized: &mut Source<'_>) -> Result<TensorMap, FactorizeError> {
    let mut out = TensorMap::new();
    for piece in pieces(net) {
        let Some((names, along)) = &piece.parts else {
            factorized.copy(&piece.dense, &mut out)?;
            continue;
        };
        let shape = along.part_shape(&piece.dense.shape, names.len());
        let parts = names.iter().map(|name| factorized.get(name, &shape)).collect::<Result<Vec<_>, _>>()?;
        out.insert(piece.dense.name, along.join(&parts));
    }
    Ok(out)
}
