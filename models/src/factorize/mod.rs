//! Splitting a dense network's weights into sub-blocks, and joining them again.
//!
//! The sum over sub-blocks is the dense network, so both directions preserve the function.

mod cut;
mod inventory;
mod pieces;

pub use inventory::{Inventory, WeightForm};

use self::pieces::pieces;
use crate::arch::{Architecture, ArchitectureError};
use crate::weights::{Tensor, TensorMap};

/// Why weights do not fit an architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactorizeError {
    /// The architecture itself is inconsistent.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// Tensors are missing, of another shape, or unknown: all of them are listed.
    #[error("{0}")]
    Mismatch(Box<Inventory>),
}

/// Dense weights to factorised weights.
///
/// Tensors that no embedding depends on are dropped (a convolutional network's classifier, every
/// `num_batches_tracked`) or, for a ViT, passed on (`head.*`): [`Inventory`] lists them. Routers are kept where there
/// are any and not made where there are none: see [`Architecture::gate_tensors`]. With `sub_blocks` 1 nothing is cut.
///
/// # Errors
/// Every tensor that is missing, misshapen or unknown.
pub fn factorize(architecture: &Architecture, dense: &TensorMap) -> Result<TensorMap, FactorizeError> {
    architecture.validate()?;
    let mut out = checked(architecture, dense, WeightForm::Dense, Keep::Gates)?;
    for piece in pieces(architecture) {
        let tensor = &dense[&piece.dense.name];
        match piece.parts {
            None => {
                out.insert(piece.dense.name, tensor.clone());
            }
            Some((names, cut)) => {
                let k = names.len();
                let parts = names.into_iter().enumerate().map(|(i, name)| (name, cut.part(tensor, i, k)));
                out.extend(parts);
            }
        }
    }
    Ok(out)
}

/// Factorised weights back to dense weights of the same function; routers are dropped.
///
/// `fold(factorize(x))` is `x` bit for bit, but for two kinds of tensors of a ViT: the biases that its
/// conversion divides by K (`attn.proj`, `mlp.fc2`) can differ in the last bit.
///
/// # Errors
/// Every tensor that is missing, misshapen or unknown.
pub fn fold(architecture: &Architecture, factorized: &TensorMap) -> Result<TensorMap, FactorizeError> {
    architecture.validate()?;
    let mut out = checked(architecture, factorized, WeightForm::Factorized, Keep::NoGates)?;
    for piece in pieces(architecture) {
        let tensor = match &piece.parts {
            None => factorized[&piece.dense.name].clone(),
            Some((names, cut)) => {
                let parts: Vec<&Tensor> = names.iter().map(|name| &factorized[name]).collect();
                cut.join(&parts)
            }
        };
        out.insert(piece.dense.name, tensor);
    }
    Ok(out)
}

/// Weights of either form as factorised weights, with the routers they hold.
///
/// # Errors
/// Every tensor that is missing, misshapen or unknown.
pub fn to_factorized(architecture: &Architecture, weights: &TensorMap) -> Result<TensorMap, FactorizeError> {
    architecture.validate()?;
    match Inventory::of(architecture, weights).form {
        WeightForm::Dense => factorize(architecture, weights),
        WeightForm::Factorized => copied(architecture, weights, WeightForm::Factorized, Keep::Gates),
    }
}

/// Weights of either form as dense weights, without routers.
///
/// # Errors
/// Every tensor that is missing, misshapen or unknown.
pub fn to_dense(architecture: &Architecture, weights: &TensorMap) -> Result<TensorMap, FactorizeError> {
    architecture.validate()?;
    match Inventory::of(architecture, weights).form {
        WeightForm::Dense => copied(architecture, weights, WeightForm::Dense, Keep::NoGates),
        WeightForm::Factorized => fold(architecture, weights),
    }
}

/// Whether routers belong to the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Gates,
    NoGates,
}

/// What is passed on as it is, once everything is known to be there.
fn checked(
    architecture: &Architecture,
    weights: &TensorMap,
    form: WeightForm,
    keep: Keep,
) -> Result<TensorMap, FactorizeError> {
    let inventory = Inventory::of_form(architecture, weights, form);
    if !inventory.fits() {
        return Err(FactorizeError::Mismatch(Box::new(inventory)));
    }
    let gates = inventory.gates.iter().filter(|_| keep == Keep::Gates);
    let names = inventory.passed_on.iter().chain(gates);
    Ok(names.map(|name| (name.clone(), weights[name].clone())).collect())
}

/// The same weights, without what is dropped.
fn copied(
    architecture: &Architecture,
    weights: &TensorMap,
    form: WeightForm,
    keep: Keep,
) -> Result<TensorMap, FactorizeError> {
    architecture.validate()?;
    let mut out = checked(architecture, weights, form, keep)?;
    for piece in pieces(architecture) {
        let specs = match form {
            WeightForm::Dense => vec![piece.dense],
            WeightForm::Factorized => piece.factorized(),
        };
        out.extend(specs.into_iter().map(|spec| (spec.name.clone(), weights[&spec.name].clone())));
    }
    Ok(out)
}
