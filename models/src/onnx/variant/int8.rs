//! 8-bit integers: convolutions between fixed scales, matrix products with scales measured as they come.
//!
//! Convolutions stay convolutions, with what goes in and out rounded to 8 bits and back (QuantizeLinear, DequantizeLinear);
//! every runtime makes one integer operation of that pattern. Matrix products over tokens are written out
//! (DynamicQuantizeLinear, MatMulInteger), because the values of a transformer differ too much from token to token for
//! fixed scales.

use super::super::proto::{
    DATA_FLOAT, DATA_INT8, DATA_INT32, DATA_UINT8, GraphProto, NodeProto, float_tensor, int_attribute, tensor,
};
use super::edit::{Edit, node};
use super::quantized::{Scale, Weights, absorbed_outputs, plan};
use super::{Ranges, VariantError};

/// Products of fewer weights are not worth the rounding.
const MATRIX_WEIGHTS_MIN: usize = 4096;

pub(super) fn convert(graph: GraphProto, ranges: &Ranges) -> Result<GraphProto, VariantError> {
    let mut edit = Edit::of(graph);
    let nodes = edit.take_nodes();
    let plan = plan(&edit, &nodes);
    let absorbed = absorbed_outputs(&plan);
    let scale_of = |name: &str| {
        let range = ranges.get(name).copied();
        range.map(Scale::of).ok_or_else(|| VariantError::NotCalibrated { tensor: name.to_owned() })
    };
    // What is there before any node.
    if plan.tensors.contains(super::super::INPUT) {
        round(&mut edit, super::super::INPUT, scale_of(super::super::INPUT)?);
    }
    for mut node in nodes {
        if node.output.first().is_some_and(|output| absorbed.contains(output.as_str())) {
            continue;
        }
        if let Some(activated) = node.output.first().and_then(|output| plan.absorbed.get(output)) {
            node.output[0].clone_from(activated);
        }
        let input_scale = node.input.first().filter(|input| plan.tensors.contains(*input)).cloned();
        for input in node.input.iter_mut().filter(|input| plan.tensors.contains(*input)) {
            *input = format!("{input}.rounded");
        }
        let output = node.output.first().cloned().unwrap_or_default();
        let is_matrix = node.op_type == "MatMul" && is_worth_it(&edit, &node);
        match (node.op_type.as_str(), input_scale) {
            ("Conv", Some(input)) => convolution(&mut edit, node, scale_of(&input)?)?,
            _ if is_matrix => matrix_product(&mut edit, &node)?,
            _ => edit.push(node),
        }
        if plan.tensors.contains(&output) {
            round(&mut edit, &output, scale_of(&output)?);
        }
    }
    Ok(edit.finish())
}

/// `NAME` to 8 bits and back, as `NAME.rounded`.
fn round(edit: &mut Edit, name: &str, Scale { scale, zero }: Scale) {
    let scale = edit.insert(float_tensor(&format!("{name}.scale"), &[], &[scale]));
    let zero = edit.insert(tensor(&format!("{name}.zero"), &[], DATA_UINT8, vec![zero]));
    let rounded = edit.node("QuantizeLinear", &format!("{name}.bytes"), &[name, &scale, &zero], Vec::new());
    edit.node("DequantizeLinear", &format!("{name}.rounded"), &[&rounded, &scale, &zero], Vec::new());
}

/// A convolution whose weights are 8 bits and whose bias is 32 bits wide, in the scale of their products.
fn convolution(edit: &mut Edit, mut node: NodeProto, input: Scale) -> Result<(), VariantError> {
    let (shape, weights) = edit.floats(&node.input[1])?;
    let (_, bias) = edit.floats(&node.input[2])?;
    let channels = shape.first().copied().unwrap_or(0);
    // So that the bias fits into its 32 bits with room for the products.
    let floor = |channel: usize| bias[channel].abs() / (input.scale * (1 << 24) as f32);
    let Weights { values, scales } = Weights::of(&weights, channels, floor);
    let axis = || vec![int_attribute("axis", 0)];

    let name = node.input[1].clone();
    let bytes = values.iter().map(|w| w.to_le_bytes()[0]).collect();
    let bytes = edit.insert(tensor(&format!("{name}.bytes"), &shape, DATA_INT8, bytes));
    let scale = edit.insert(float_tensor(&format!("{name}.scale"), &[channels], &scales));
    let zero = edit.insert(tensor(&format!("{name}.zero"), &[channels], DATA_INT8, vec![0; channels]));
    node.input[1] =
        edit.node("DequantizeLinear", &format!("{name}.rounded"), &[&bytes, &scale, &zero], axis());

    let name = node.input[2].clone();
    let scales: Vec<f32> = scales.iter().map(|scale| scale * input.scale).collect();
    let words = bias.iter().zip(&scales).flat_map(|(b, scale)| ((b / scale).round() as i32).to_le_bytes());
    let words = edit.insert(tensor(&format!("{name}.words"), &[channels], DATA_INT32, words.collect()));
    let scale = edit.insert(float_tensor(&format!("{name}.scale"), &[channels], &scales));
    let zero = edit.insert(tensor(&format!("{name}.zero"), &[channels], DATA_INT32, vec![0; 4 * channels]));
    node.input[2] =
        edit.node("DequantizeLinear", &format!("{name}.rounded"), &[&words, &scale, &zero], axis());
    edit.push(node);
    Ok(())
}

fn is_worth_it(edit: &Edit, node: &NodeProto) -> bool {
    let constant = node.input.get(1).and_then(|name| edit.constant(name));
    constant.is_some_and(|weights| {
        let shape = weights.shape();
        shape.len() == 2 && shape.iter().product::<usize>() >= MATRIX_WEIGHTS_MIN
    })
}

/// `input x weights`, the input rounded by its own range, which is measured once for all products that share it.
fn matrix_product(edit: &mut Edit, product: &NodeProto) -> Result<(), VariantError> {
    let (input, name, output) = (&product.input[0], &product.input[1], &product.output[0]);
    let (shape, weights) = edit.floats(name)?;
    let (rows, columns) = (shape[0], shape[1]);
    let by_column: Vec<f32> = (0..columns)
        .flat_map(|c| (0..rows).map(move |r| (r, c)))
        .map(|(r, c)| weights[r * columns + c])
        .collect();
    let Weights { values, scales } = Weights::of(&by_column, columns, |_| 0.0);
    let bytes = (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c)));
    let bytes = bytes.map(|(r, c)| values[c * rows + r].to_le_bytes()[0]).collect();
    let bytes = edit.insert(tensor(&format!("{name}.bytes"), &shape, DATA_INT8, bytes));
    let weight_scale = edit.insert(float_tensor(&format!("{name}.scale"), &[columns], &scales));
    let weight_zero = edit.insert(tensor(&format!("{name}.zero"), &[columns], DATA_INT8, vec![0; columns]));

    let [rounded, scale, zero] = ["bytes", "scale", "zero"].map(|part| format!("{input}.{part}"));
    if !edit.defines(&rounded) {
        let outputs = [rounded.as_str(), &scale, &zero];
        edit.push(node("DynamicQuantizeLinear", &format!("{input}.round"), &[input], &outputs, Vec::new()));
    }
    let inputs = [rounded.as_str(), &bytes, &zero, &weight_zero];
    let sums = edit.node("MatMulInteger", &format!("{output}.sums"), &inputs, Vec::new());
    let to_float = vec![int_attribute("to", i64::from(DATA_FLOAT))];
    let sums = edit.node("Cast", &format!("{output}.numbers"), &[&sums], to_float);
    let scales = edit.node("Mul", &format!("{output}.scales"), &[&scale, &weight_scale], Vec::new());
    edit.node("Mul", output, &[&sums, &scales], Vec::new());
    Ok(())
}
