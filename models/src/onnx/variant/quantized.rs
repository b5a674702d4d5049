//! Which tensors of a convolutional network become 8 bits wide, and the numbers that do it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::proto::NodeProto;
use super::edit::{Edit, users};

/// What is to become of a graph's nodes.
pub(super) struct Plan {
    /// Tensors that are rounded to 8 bits.
    pub(super) tensors: BTreeSet<String>,
    /// Activation functions that rounding does by itself, as it cuts off at the ends of the range; their output becomes that
    /// of the node before. By name of the value that they take away.
    pub(super) absorbed: HashMap<String, String>,
}

/// Convolutions with constant weights, if there is more than the one that cuts an image into patches, with the ReLU or ReLU6 after each and the sums that join them.
pub(super) fn plan(edit: &Edit, nodes: &[NodeProto]) -> Plan {
    let users = users(nodes);
    let mut plan = Plan { tensors: BTreeSet::new(), absorbed: HashMap::new() };
    if nodes.iter().filter(|node| node.op_type == "Conv").count() < 2 {
        return plan;
    }
    // The output of the one activation function that follows, if there is nothing else.
    let activated = |output: &str| match users.get(output).map(Vec::as_slice) {
        Some([only]) if matches!(nodes[*only].op_type.as_str(), "Clip" | "Relu") => {
            nodes[*only].output.first()
        }
        _ => None,
    };
    for node in nodes {
        let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else { continue };
        let is_joined = || node.input.iter().all(|input| plan.tensors.contains(input));
        match node.op_type.as_str() {
            "Conv" if node.input[1..].iter().all(|name| edit.constant(name).is_some()) => {
                plan.tensors.insert(input.clone());
            }
            "Add" if is_joined() => {}
            _ => continue,
        }
        let output = match activated(output) {
            Some(activated) => {
                plan.absorbed.insert(output.clone(), activated.clone());
                activated
            }
            None => output,
        };
        plan.tensors.insert(output.clone());
    }
    plan
}

/// Names of nodes that are gone with the plan.
pub(super) fn absorbed_outputs(plan: &Plan) -> HashSet<&str> {
    plan.absorbed.values().map(String::as_str).collect()
}

/// How numbers become 8 bits without sign: `value / scale + zero`, rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) scale: f32,
    pub(super) zero: u8,
}

impl Scale {
    /// For values from `low` to `high`; zero itself is always exact, because padding is made of it.
    pub(super) fn of((low, high): (f32, f32)) -> Scale {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE * 1e6);
        Scale { scale, zero: (-low / scale).round().clamp(0.0, 255.0) as u8 }
    }
}

/// Weights as 8-bit integers, with one scale per output channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weights {
    pub(super) values: Vec<i8>,
    pub(super) scales: Vec<f32>,
}

/// The largest weight: one bit less than there is room for, because processors without VNNI add pairs of products in 16
/// bits, and two of 255 x 127 do not fit.
const WEIGHT_MAX: f32 = 64.0;

impl Weights {
    /// Of `[channels, ...]`; `floor` is the least scale for each channel.
    pub(super) fn of(weights: &[f32], channels: usize, floor: impl Fn(usize) -> f32) -> Weights {
        let rows = weights.chunks_exact((weights.len() / channels.max(1)).max(1));
        let scales: Vec<f32> = rows
            .clone()
            .enumerate()
            .map(|(channel, row)| {
                let largest = row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
                (largest / WEIGHT_MAX).max(floor(channel)).max(f32::MIN_POSITIVE * 1e6)
            })
            .collect();
        let values = rows
            .zip(&scales)
            .flat_map(|(row, scale)| {
                row.iter().map(move |w| (w / scale).round().clamp(-WEIGHT_MAX, WEIGHT_MAX) as i8)
            })
            .collect();
        Weights { values, scales }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_keep_zero_exact_and_reach_both_ends() {
        for range in [(-1.0, 3.0), (0.0, 6.0), (2.0, 5.0), (-0.3, -0.1), (0.0, 0.0)] {
            let Scale { scale, zero } = Scale::of(range);
            let back = |q: f32| (q - f32::from(zero)) * scale;
            assert!(scale > 0.0 && scale.is_finite());
            assert!(back(0.0) <= range.0.min(0.0) + scale && back(255.0) >= range.1 - scale, "{range:?}");
        }
        assert_eq!(Scale::of((0.0, 6.0)), Scale { scale: 6.0 / 255.0, zero: 0 });
    }

    #[test]
    fn every_channel_has_a_scale_of_its_own() {
        let weights = Weights::of(&[0.5, -1.0, 64.0, 32.0, 0.0, 0.0], 3, |_| 0.0);
        assert_eq!(weights.values, [32, -64, 64, 32, 0, 0]);
        assert_eq!(weights.scales[..2], [1.0 / 64.0, 1.0]);
        // A bias that needs a coarser scale gets one.
        assert_eq!(Weights::of(&[0.5, -1.0], 1, |_| 0.5).values, [1, -2]);
    }
}
