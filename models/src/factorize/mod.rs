//! Splitting a dense network's weights into sub-blocks, and joining them again.
//!
//! The sum over sub-blocks is the dense network, so both directions preserve the function.

mod efficientnet_lite;
mod vit;

use std::collections::HashSet;

use crate::arch::{Architecture, ArchitectureError, TensorSpec};
use crate::weights::{Tensor, TensorMap};

/// Why weights do not fit an architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactorizeError {
    /// The architecture itself is inconsistent.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// A tensor that the architecture needs is absent.
    #[error("the weights have no tensor {name}, of shape {expected:?}")]
    Missing {
        /// The tensor.
        name: String,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor has another shape than the architecture says.
    #[error("tensor {name} has shape {found:?}; the architecture needs {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape it should have.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// A tensor that the architecture has no place for: probably the weights of another network.
    #[error("the weights hold tensor {name}, which the architecture has no place for")]
    Unexpected {
        /// The tensor.
        name: String,
    },
}

/// Dense weights to factorised weights.
///
/// Tensors that no embedding depends on are dropped (EfficientNet's `_fc.*`, every `num_batches_tracked`) or,
/// for a ViT, passed on (`head.*`). Routers are not made: see [`Architecture::gate_tensors`]. A block that
/// cannot be split stays dense; with `sub_blocks` 1 that is every block.
pub fn factorize(architecture: &Architecture, dense: &TensorMap) -> Result<TensorMap, FactorizeError> {
    architecture.validate()?;
    let mut source = Source::new(dense);
    let out = match architecture {
        Architecture::EfficientnetLite(net) => efficientnet_lite::factorize(net, &mut source)?,
        Architecture::Vit(net) => vit::factorize(net, &mut source)?,
    };
    source.finish(architecture, out)
}

/// Factorised weights back to dense weights of the same function; routers are dropped.
///
/// `fold(factorize(x))` is `x` bit for bit, but for two kinds of tensors of a ViT: the biases that its
/// conversion divides by K (`attn.proj`, `mlp.fc2`) can differ in the last bit.
pub fn fold(architecture: &Architecture, factorized: &TensorMap) -> Result<TensorMap, FactorizeError> {
    architecture.validate()?;
    let mut source = Source::new(factorized);
    let out = match architecture {
        Architecture::EfficientnetLite(net) => efficientnet_lite::fold(net, &mut source)?,
        Architecture::Vit(net) => vit::fold(net, &mut source)?,
    };
    source.finish(architecture, out)
}

/// Whether weights are in factorised form for this architecture (some dense tensor is absent).
pub(crate) fn is_factorized(architecture: &Architecture, weights: &TensorMap) -> bool {
    architecture.sub_blocks() > 1
        && architecture.dense_tensors().iter().any(|spec| !weights.contains_key(&spec.name))
}

/// Weights being converted: hands out tensors of the right shape and remembers which were used.
struct Source<'a> {
    tensors: &'a TensorMap,
    used: HashSet<String>,
}

impl<'a> Source<'a> {
    fn new(tensors: &'a TensorMap) -> Source<'a> {
        Source { tensors, used: HashSet::new() }
    }

    fn get(&mut self, name: &str, shape: &[usize]) -> Result<&'a Tensor, FactorizeError> {
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| FactorizeError::Missing { name: name.to_owned(), expected: shape.to_vec() })?;
        if tensor.shape != shape {
            return Err(FactorizeError::Shape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.shape.clone(),
            });
        }
        self.used.insert(name.to_owned());
        Ok(tensor)
    }

    /// Copies a tensor that has the same name and shape on both sides.
    fn copy(&mut self, spec: &TensorSpec, out: &mut TensorMap) -> Result<(), FactorizeError> {
        let tensor = self.get(&spec.name, &spec.shape)?;
        out.insert(spec.name.clone(), tensor.clone());
        Ok(())
    }

    /// Accounts for the tensors that were not used: known ones are dropped or passed on, others are errors.
    fn finish(self, architecture: &Architecture, mut out: TensorMap) -> Result<TensorMap, FactorizeError> {
        let gates: HashSet<String> = architecture.gate_tensors().into_iter().map(|gate| gate.name).collect();
        for (name, tensor) in self.tensors.iter().filter(|(name, _)| !self.used.contains(*name)) {
            match (architecture, name.as_str()) {
                _ if name.ends_with(".num_batches_tracked") || gates.contains(name) => {}
                (Architecture::EfficientnetLite(_), "_fc.weight" | "_fc.bias") => {}
                (Architecture::Vit(_), n) if n.starts_with("head.") || n.starts_with("head_dist.") => {
                    out.insert(name.clone(), tensor.clone());
                }
                _ => return Err(FactorizeError::Unexpected { name: name.clone() }),
            }
        }
        Ok(out)
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

/// Which part of which tensor a sub-block takes.
#[derive(Clone, Copy)]
enum Split {
    /// A slice of the outermost dimension.
    Rows,
    /// A slice of the second dimension.
    Columns,
}

impl Split {
    fn cut(self, tensor: &Tensor, start: usize, len: usize) -> Tensor {
        match self {
            Split::Rows => rows(tensor, start, len),
            Split::Columns => columns(tensor, start, len),
        }
    }

    fn join(self, parts: &[&Tensor]) -> Tensor {
        match self {
            Split::Rows => join_rows(parts),
            Split::Columns => join_columns(parts),
        }
    }

    /// The shape of one of `count` equal parts.
    fn part_shape(self, shape: &[usize], count: usize) -> Vec<usize> {
        let mut part = shape.to_vec();
        let dimension = match self {
            Split::Rows => 0,
            Split::Columns => 1,
        };
        part[dimension] /= count;
        part
    }
}
