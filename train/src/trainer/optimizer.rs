//! Optimisers with parameter groups and a state that can be saved.

use std::collections::BTreeMap;

use dfml_models::TensorMap;
use tch::{Kind, Tensor};

use super::rules::{Moments, Rule};
use crate::config::OptimizerConfig;
use crate::error::TrainError;
use crate::nn::params::{from_host, to_host};

/// Named tensors that share a factor on the learning rate.
#[derive(Debug)]
pub struct ParamGroup {
    /// Factor on the learning rate of a step.
    pub factor: f64,
    /// The tensors by name, leaves that require gradient. Names are unique over all groups.
    pub tensors: Vec<(String, Tensor)>,
}

/// AdamW, Adam, SGD or RMSprop, with the arithmetic of torch.optim. libtorch's own optimisers, as tch exposes them, cannot save
/// their state, which a resumed run needs.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    clip_value: f64,
    groups: Vec<ParamGroup>,
    moments: Vec<Vec<Moments>>,
}

/// The part of an optimiser's state that is not tensors: steps done, by tensor.
pub type StepCounts = BTreeMap<String, i32>;

impl Optimizer {
    /// An optimiser of `groups` that has done no step.
    pub fn new(groups: Vec<ParamGroup>, config: &OptimizerConfig) -> Self {
        let rule = Rule { algorithm: config.algorithm, weight_decay: config.weight_decay };
        let moments = tch::no_grad(|| {
            groups.iter().map(|g| g.tensors.iter().map(|(_, t)| rule.start(t)).collect()).collect()
        });
        Self { rule, clip_value: config.clip_value, groups, moments }
    }

    /// Clears the gradients of every tensor.
    pub fn zero_grad(&mut self) {
        for (_, tensor) in self.groups.iter_mut().flat_map(|group| &mut group.tensors) {
            tensor.zero_grad();
        }
    }

    /// One step at `learning_rate` in the groups for which `active(group index)` holds. Gradients are multiplied by `scale` and clipped;
    /// tensors without a gradient are left alone.
    pub fn step(&mut self, learning_rate: f64, scale: f64, active: impl Fn(usize) -> bool) {
        let (rule, clip) = (self.rule, self.clip_value);
        tch::no_grad(|| {
            for (index, (group, moments)) in self.groups.iter_mut().zip(&mut self.moments).enumerate() {
                if !active(index) {
                    continue;
                }
                for ((_, tensor), moments) in group.tensors.iter_mut().zip(moments) {
                    let gradient = tensor.grad();
                    if gradient.defined() {
                        let gradient = gradient.to_kind(Kind::Float);
                        let gradient = if scale == 1.0 { gradient } else { gradient * scale };
                        let clipped = gradient.clamp(-clip, clip);
                        rule.apply(tensor, clipped, moments, learning_rate * group.factor);
                    }
                }
            }
        });
    }

    /// Whether every gradient is finite.
    pub fn gradients_are_finite(&self) -> bool {
        let tensors = self.groups.iter().flat_map(|group| &group.tensors);
        tensors
            .map(|(_, tensor)| tensor.grad())
            .filter(Tensor::defined)
            .all(|gradient| gradient.isfinite().all().int64_value(&[]) != 0)
    }

    /// The state: tensors called `NAME.first` and `NAME.second` as far as the algorithm keeps them, and step counts.
    pub fn state(&self) -> (TensorMap, StepCounts) {
        let (mut tensors, mut steps) = (TensorMap::new(), StepCounts::new());
        for (name, moments) in self.named() {
            steps.insert(name.to_owned(), moments.steps);
            for (part, tensor) in [("first", &moments.first), ("second", &moments.second)] {
                if let Some(tensor) = tensor {
                    tensors.insert(format!("{name}.{part}"), to_host(tensor));
                }
            }
        }
        (tensors, steps)
    }

    fn named(&self) -> impl Iterator<Item = (&str, &Moments)> {
        let names = self.groups.iter().flat_map(|group| group.tensors.iter().map(|(name, _)| name.as_str()));
        names.zip(self.moments.iter().flatten())
    }

    /// Goes on from a [`state`](Self::state).
    ///
    /// # Errors
    /// A tensor that the state lacks or has in another shape, by name.
    pub fn restore(&mut self, tensors: &TensorMap, steps: &StepCounts) -> Result<(), TrainError> {
        for (group, moments) in self.groups.iter().zip(&mut self.moments) {
            for ((name, _), moments) in group.tensors.iter().zip(moments) {
                let missing = || TrainError::MissingTensor { name: name.clone() };
                moments.steps = *steps.get(name).ok_or_else(missing)?;
                for (part, tensor) in [("first", &mut moments.first), ("second", &mut moments.second)] {
                    if let Some(tensor) = tensor {
                        copy_into(tensor, tensors, &format!("{name}.{part}"))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Overwrites `target` with the tensor `name` of `source`.
///
/// # Errors
/// [`TrainError::MissingTensor`] and [`TrainError::Shape`].
pub(super) fn copy_into(target: &mut Tensor, source: &TensorMap, name: &str) -> Result<(), TrainError> {
    let host = source.get(name).ok_or_else(|| TrainError::MissingTensor { name: name.to_owned() })?;
    let expected: Vec<usize> = target.size().iter().map(|&n| n as usize).collect();
    if host.shape != expected {
        return Err(TrainError::Shape { name: name.to_owned(), expected, found: host.shape.clone() });
    }
    tch::no_grad(|| target.copy_(&from_host(host, target.device())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Algorithm;
    use tch::{Device, nn, nn::OptimizerConfig as _};

    /// Steps of ours and libtorch's from the same start; the largest difference of the weights.
    fn difference(algorithm: Algorithm, build: impl Fn(&nn::VarStore) -> nn::Optimizer) -> f64 {
        tch::manual_seed(3);
        let start = Tensor::randn([4, 3], (Kind::Float, Device::Cpu));
        let target = Tensor::randn([4, 3], (Kind::Float, Device::Cpu));
        let vs = nn::VarStore::new(Device::Cpu);
        let theirs = vs.root().var_copy("w", &start);
        let mut reference = build(&vs);
        let ours = start.copy().set_requires_grad(true);
        let mut optimizer = optimizer(&ours, algorithm);
        for _ in 0..20 {
            reference.backward_step(&(&theirs - &target).square().sum(Kind::Float));
            optimizer.zero_grad();
            (&ours - &target).square().sum(Kind::Float).backward();
            optimizer.step(1e-2, 1.0, |_| true);
        }
        assert!((&start - &ours).abs().max().double_value(&[]) > 0.05, "the weights moved");
        (ours - theirs).abs().max().double_value(&[])
    }

    fn optimizer(tensor: &Tensor, algorithm: Algorithm) -> Optimizer {
        let config =
            OptimizerConfig { weight_decay: 1e-2, clip_value: 1e9, algorithm, ..OptimizerConfig::default() };
        let tensors = vec![("w".to_owned(), tensor.shallow_clone())];
        Optimizer::new(vec![ParamGroup { factor: 1.0, tensors }], &config)
    }

    const ALGORITHMS: [Algorithm; 6] = [
        Algorithm::AdamW,
        Algorithm::Adam,
        Algorithm::Sgd { momentum: 0.9, nesterov: false },
        Algorithm::Sgd { momentum: 0.9, nesterov: true },
        Algorithm::RmsProp { alpha: 0.99, momentum: 0.0 },
        Algorithm::RmsProp { alpha: 0.9, momentum: 0.8 },
    ];

    #[test]
    fn steps_equal_those_of_libtorchs_own_optimisers() {
        for algorithm in ALGORITHMS {
            let gap = difference(algorithm, |vs| {
                let built = match algorithm {
                    Algorithm::AdamW => nn::AdamW { wd: 1e-2, ..Default::default() }.build(vs, 1e-2),
                    Algorithm::Adam => nn::Adam { wd: 1e-2, ..Default::default() }.build(vs, 1e-2),
                    Algorithm::Sgd { momentum, nesterov } => {
                        nn::sgd(momentum, 0.0, 1e-2, nesterov).build(vs, 1e-2)
                    }
                    Algorithm::RmsProp { alpha, momentum } => {
                        nn::rms_prop(alpha, 1e-8, 1e-2, momentum, false).build(vs, 1e-2)
                    }
                };
                built.unwrap()
            });
            assert!(gap < 1e-6, "{algorithm:?}: {gap}");
        }
    }

    #[test]
    fn a_restored_optimiser_goes_on_bit_for_bit() {
        for algorithm in ALGORITHMS {
            let weight = Tensor::from_slice(&[1f32, -2., 3.]).set_requires_grad(true);
            let step = |optimizer: &mut Optimizer, weight: &Tensor| {
                optimizer.zero_grad();
                weight.square().sum(Kind::Float).backward();
                optimizer.step(1e-2, 1.0, |_| true);
            };
            let mut first = optimizer(&weight, algorithm);
            (0..3).for_each(|_| step(&mut first, &weight));
            let copy = weight.detach().copy().set_requires_grad(true);
            let (tensors, steps) = first.state();
            let mut second = optimizer(&copy, algorithm);
            second.restore(&tensors, &steps).unwrap();
            (0..3).for_each(|_| {
                step(&mut first, &weight);
                step(&mut second, &copy);
            });
            assert_eq!(to_host(&weight), to_host(&copy), "{algorithm:?}");
            let error = second.restore(&TensorMap::new(), &StepCounts::new()).unwrap_err();
            assert!(error.to_string().contains("`w`"), "{error}");
        }
    }

    #[test]
    fn gradients_are_scaled_then_clipped() {
        let weight = Tensor::from_slice(&[0f32, 0.]).set_requires_grad(true);
        let config = OptimizerConfig {
            weight_decay: 0.0,
            clip_value: 2.0,
            algorithm: Algorithm::Sgd { momentum: 0.0, nesterov: false },
            ..OptimizerConfig::default()
        };
        let tensors = vec![("w".to_owned(), weight.shallow_clone())];
        let mut optimizer = Optimizer::new(vec![ParamGroup { factor: 10.0, tensors }], &config);
        (&weight * Tensor::from_slice(&[4f32, -100.])).sum(Kind::Float).backward();
        optimizer.step(0.1, 0.25, |_| true);
        assert_eq!(to_host(&weight).data, [-1.0, 2.0]);
    }
}
