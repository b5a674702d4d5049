//! 16-bit floating point everywhere but at the edges.

use half::f16;

use super::super::proto::{DATA_FLOAT, DATA_HALF, GraphProto, int_attribute};
use super::super::{INPUT, OUTPUT};
use super::edit::Edit;

/// Whether a node brings the embedding to unit length: the sum of squares would not fit into 16 bits.
fn is_normalisation(name: &str) -> bool {
    name.starts_with("l2.") || name == OUTPUT
}

pub(super) fn convert(graph: GraphProto) -> GraphProto {
    let mut edit = Edit::of(graph);
    let to = |data_type: i32| vec![int_attribute("to", i64::from(data_type))];
    for constant in edit.constants_mut() {
        if is_normalisation(&constant.name) {
            continue;
        }
        if let Some(values) = constant.floats() {
            // Beyond the largest number there is only infinity, which would spread.
            let half = |x: f32| f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()));
            constant.raw_data = values.into_iter().flat_map(|x| half(x).to_le_bytes()).collect();
            constant.data_type = DATA_HALF;
        }
    }
    let nodes = edit.take_nodes();
    let input = edit.node("Cast", "pixels.half", &[INPUT], to(DATA_HALF));
    let mut rows = None;
    for mut node in nodes {
        if is_normalisation(&node.name) {
            for name in &mut node.input {
                let comes_from_network = !is_normalisation(name) && edit.constant(name).is_none();
                if comes_from_network {
                    *name = rows
                        .get_or_insert_with(|| {
                            edit.node("Cast", "rows.single", &[name.as_str()], to(DATA_FLOAT))
                        })
                        .clone();
                }
            }
        } else {
            for name in node.input.iter_mut().filter(|name| name.as_str() == INPUT) {
                name.clone_from(&input);
            }
        }
        edit.push(node);
    }
    edit.finish()
}
