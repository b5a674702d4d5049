//! What a weight file holds, held against what an architecture needs: nothing is skipped silently.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::pieces::pieces;
use crate::arch::{Architecture, TensorSpec};
use crate::weights::TensorMap;

/// Which of the two ways weights are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightForm {
    /// One tensor per layer, as pretrained files are.
    Dense,
    /// One tensor per layer and sub-block, as DFML trains.
    Factorized,
}

impl fmt::Display for WeightForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightForm::Dense => "dense",
            WeightForm::Factorized => "factorised",
        })
    }
}

/// Every tensor of a weight file by what becomes of it, and the tensors that are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// How the weights are written.
    pub form: WeightForm,
    /// Tensors that the network needs and the file lacks.
    pub missing: Vec<TensorSpec>,
    /// Tensors of another shape than the network needs: what is needed, and the shape found.
    pub misshapen: Vec<(TensorSpec, Vec<usize>)>,
    /// Tensors that the network has no place for: probably the weights of another network.
    pub unexpected: Vec<String>,
    /// Tensors that no embedding depends on (the classifier of a convolutional network, step counters).
    pub dropped: Vec<String>,
    /// Tensors that no embedding depends on but that the official conversion keeps (a ViT's classifiers).
    pub passed_on: Vec<String>,
    /// Routers.
    pub gates: Vec<String>,
}

impl Inventory {
    /// Holds `weights` against `architecture`; they are taken for factorised if they hold any part of a cut tensor.
    pub fn of(architecture: &Architecture, weights: &TensorMap) -> Inventory {
        let part = |spec: &TensorSpec| weights.contains_key(&spec.name);
        let cut = pieces(architecture).into_iter().filter(|piece| piece.parts.is_some());
        let form = match cut.into_iter().any(|piece| piece.factorized().iter().any(part)) {
            true => WeightForm::Factorized,
            false => WeightForm::Dense,
        };
        Inventory::of_form(architecture, weights, form)
    }

    /// Holds `weights` against `architecture` written in `form`.
    pub(super) fn of_form(architecture: &Architecture, weights: &TensorMap, form: WeightForm) -> Inventory {
        let mut found = Inventory {
            form,
            missing: Vec::new(),
            misshapen: Vec::new(),
            unexpected: Vec::new(),
            dropped: Vec::new(),
            passed_on: Vec::new(),
            gates: Vec::new(),
        };
        let needed: Vec<TensorSpec> = match form {
            WeightForm::Dense => architecture.dense_tensors(),
            WeightForm::Factorized => pieces(architecture).iter().flat_map(|p| p.factorized()).collect(),
        };
        let gates: BTreeMap<String, TensorSpec> =
            architecture.gate_tensors().into_iter().map(|gate| (gate.name.clone(), gate)).collect();
        let mut known = BTreeSet::new();
        for spec in needed {
            known.insert(spec.name.clone());
            match weights.get(&spec.name) {
                None => found.missing.push(spec),
                Some(tensor) if tensor.shape != spec.shape => {
                    found.misshapen.push((spec, tensor.shape.clone()));
                }
                Some(_) => {}
            }
        }
        for (name, tensor) in weights.iter().filter(|(name, _)| !known.contains(*name)) {
            match gates.get(name) {
                Some(gate) if gate.shape != tensor.shape => {
                    found.misshapen.push((gate.clone(), tensor.shape.clone()));
                }
                Some(_) => found.gates.push(name.clone()),
                None => found.place(architecture, name),
            }
        }
        found
    }

    /// Files a tensor that the network itself has no use for.
    fn place(&mut self, architecture: &Architecture, name: &str) {
        let is_vit = matches!(architecture, Architecture::Vit(_));
        let list = if name.ends_with(".num_batches_tracked") {
            &mut self.dropped
        } else if is_vit && (name.starts_with("head.") || name.starts_with("head_dist.")) {
            &mut self.passed_on
        } else if architecture.classifier_tensors().contains(&name) {
            &mut self.dropped
        } else {
            &mut self.unexpected
        };
        list.push(name.to_owned());
    }

    /// Whether every tensor is there, of the right shape, and none is unknown.
    pub fn fits(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty() && self.unexpected.is_empty()
    }
}

/// Tensors named in a one-line message; the rest are counted.
const NAMED_MAX: usize = 12;

/// What does not fit, in one line; the first dozen tensors of each kind by name.
impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing.iter().map(|spec| format!("{} {:?}", spec.name, spec.shape));
        let misshapen = self
            .misshapen
            .iter()
            .map(|(spec, found)| format!("{} is {found:?}, must be {:?}", spec.name, spec.shape));
        let kinds: [(&str, Vec<String>); 3] = [
            ("missing", missing.collect()),
            ("of another shape", misshapen.collect()),
            ("unknown", self.unexpected.clone()),
        ];
        write!(f, "the {} weights do not fit the architecture", self.form)?;
        for (kind, names) in kinds.iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, "; {kind}: {}", names[..names.len().min(NAMED_MAX)].join(", "))?;
            if names.len() > NAMED_MAX {
                write!(f, " and {} more", names.len() - NAMED_MAX)?;
            }
        }
        Ok(())
    }
}
