//! Cutting one tensor in K parts, and joining them again.

use crate::weights::Tensor;

/// How a tensor of the dense network is divided among sub-blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Equal slices of the outermost dimension.
    Rows,
    /// Equal slices of the second dimension.
    Columns,
    /// Queries, keys and values lie stacked: each sub-block takes its slice of each third.
    Thirds,
    /// Each sub-block adds this bias to the sum, so it takes a K-th of every element.
    Share,
}

impl Cut {
    /// Part `index` (from 0) of `k`.
    pub(super) fn part(self, tensor: &Tensor, index: usize, k: usize) -> Tensor {
        match self {
            Cut::Rows => {
                let len = tensor.shape[0] / k;
                rows(tensor, index * len, len)
            }
            Cut::Columns => {
                let len = tensor.shape[1] / k;
                columns(tensor, index * len, len)
            }
            Cut::Thirds => {
                let third = tensor.shape[0] / 3;
                let len = third / k;
                let parts = [0, 1, 2].map(|part| rows(tensor, part * third + index * len, len));
                join_rows(&[&parts[0], &parts[1], &parts[2]])
            }
            // In single precision, as the official conversion divides.
            Cut::Share => {
                Tensor::new(tensor.shape.clone(), tensor.data.iter().map(|x| x / k as f32).collect())
            }
        }
    }

    /// The whole again.
    pub(super) fn join(self, parts: &[&Tensor]) -> Tensor {
        match self {
            Cut::Rows => join_rows(parts),
            Cut::Columns => join_columns(parts),
            Cut::Thirds => {
                let len = parts[0].shape[0] / 3;
                let slices: Vec<Tensor> = (0..3)
                    .flat_map(|third| parts.iter().map(move |part| rows(part, third * len, len)))
                    .collect();
                join_rows(&slices.iter().collect::<Vec<_>>())
            }
            Cut::Share => sum(parts),
        }
    }

    /// The shape of one of `k` parts.
    pub(super) fn part_shape(self, shape: &[usize], k: usize) -> Vec<usize> {
        let mut part = shape.to_vec();
        match self {
            Cut::Rows | Cut::Thirds => part[0] /= k,
            Cut::Columns => part[1] /= k,
            Cut::Share => {}
        }
        part
    }
}

/// Rows `start..start + len` of a tensor's outermost dimension.
fn rows(tensor: &Tensor, start: usize, len: usize) -> Tensor {
    let row = tensor.shape[1..].iter().product::<usize>();
    let mut shape = tensor.shape.clone();
    shape[0] = len;
    Tensor::new(shape, tensor.data[start * row..(start + len) * row].to_vec())
}

/// Parts joined along the outermost dimension.
fn join_rows(parts: &[&Tensor]) -> Tensor {
    let mut shape = parts[0].shape.clone();
    shape[0] = parts.iter().map(|part| part.shape[0]).sum();
    Tensor::new(shape, parts.iter().flat_map(|part| part.data.iter().copied()).collect())
}

/// Columns `start..start + len` of the second dimension (of a matrix, or of a 1x1 convolution).
fn columns(tensor: &Tensor, start: usize, len: usize) -> Tensor {
    let width = tensor.shape[1];
    let mut shape = tensor.shape.clone();
    shape[1] = len;
    let data = tensor.data.chunks_exact(width).flat_map(|row| row[start..start + len].iter().copied());
    Tensor::new(shape, data.collect())
}

/// Parts joined along the second dimension.
fn join_columns(parts: &[&Tensor]) -> Tensor {
    let mut shape = parts[0].shape.clone();
    shape[1] = parts.iter().map(|part| part.shape[1]).sum();
    let mut data = Vec::with_capacity(shape.iter().product());
    for row in 0..shape[0] {
        for part in parts {
            let width = part.shape[1];
            data.extend_from_slice(&part.data[row * width..(row + 1) * width]);
        }
    }
    Tensor::new(shape, data)
}

/// The elementwise sum, in double precision: trained biases of sub-blocks differ.
fn sum(parts: &[&Tensor]) -> Tensor {
    let data = (0..parts[0].numel())
        .map(|i| parts.iter().map(|part| f64::from(part.data[i])).sum::<f64>() as f32)
        .collect();
    Tensor::new(parts[0].shape.clone(), data)
}
