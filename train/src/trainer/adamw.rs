//! AdamW with parameter groups and a state that can be saved.

use tch::{Kind, Tensor};

/// Settings shared by all groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Gradient values are clipped to ± this.
    pub clip_value: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-4, clip_value: 10.0 }
    }
}

/// Tensors that share a factor on the learning rate.
#[derive(Debug)]
pub struct ParamGroup {
    /// Factor on the learning rate of a step.
    pub factor: f64,
    /// The tensors, leaves that require gradient.
    pub tensors: Vec<Tensor>,
}

/// AdamW (Loshchilov and Hutter 2019), the arithmetic of torch.optim.AdamW. libtorch's own optimiser as tch exposes
/// it cannot save its moments, which a resumed run needs.
#[derive(Debug)]
pub struct AdamW {
    options: AdamWOptions,
    groups: Vec<ParamGroup>,
    moments: Vec<Vec<Moments>>,
}

#[derive(Debug)]
struct Moments {
    first: Tensor,
    second: Tensor,
    steps: i32,
}

impl AdamW {
    /// An optimiser of `groups` with zero moments.
    pub fn new(groups: Vec<ParamGroup>, options: AdamWOptions) -> Self {
        let zero = |t: &Tensor| Moments { first: t.zeros_like(), second: t.zeros_like(), steps: 0 };
        let moments = tch::no_grad(|| groups.iter().map(|g| g.tensors.iter().map(zero).collect()).collect());
        Self { options, groups, moments }
    }

    /// Clears the gradients of every tensor.
    pub fn zero_grad(&mut self) {
        for tensor in self.groups.iter_mut().flat_map(|group| &mut group.tensors) {
            tensor.zero_grad();
        }
    }

    /// One step at `learning_rate` in the groups for which `active(group index)` holds; tensors without a gradient are
    /// left alone.
    pub fn step(&mut self, learning_rate: f64, active: impl Fn(usize) -> bool) {
        let options = self.options;
        tch::no_grad(|| {
            for (index, (group, moments)) in self.groups.iter_mut().zip(&mut self.moments).enumerate() {
                if !active(index) {
                    continue;
                }
                for (tensor, moments) in group.tensors.iter_mut().zip(moments) {
                    let gradient = tensor.grad();
                    if gradient.defined() {
                        update(tensor, &gradient, moments, learning_rate * group.factor, &options);
                    }
                }
            }
        });
    }
}

fn update(tensor: &mut Tensor, gradient: &Tensor, moments: &mut Moments, rate: f64, options: &AdamWOptions) {
    let gradient = gradient.clamp(-options.clip_value, options.clip_value).to_kind(Kind::Float);
    moments.steps += 1;
    let _ = tensor.g_mul_scalar_(1.0 - rate * options.weight_decay);
    let _ = moments.first.g_mul_scalar_(options.beta1);
    moments.first += &gradient * (1.0 - options.beta1);
    let _ = moments.second.g_mul_scalar_(options.beta2);
    moments.second += gradient.square() * (1.0 - options.beta2);
    let correction1 = 1.0 - options.beta1.powi(moments.steps);
    let correction2 = 1.0 - options.beta2.powi(moments.steps);
    let denominator = moments.second.sqrt() / correction2.sqrt() + options.eps;
    *tensor -= &moments.first / denominator * (rate / correction1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn, nn::OptimizerConfig};

    #[test]
    fn steps_equal_libtorchs_own_adamw() {
        tch::manual_seed(3);
        let start = Tensor::randn([4, 3], (Kind::Float, Device::Cpu));
        let target = Tensor::randn([4, 3], (Kind::Float, Device::Cpu));
        let vs = nn::VarStore::new(Device::Cpu);
        let theirs = vs.root().var_copy("w", &start);
        let mut reference = nn::AdamW { wd: 1e-2, ..Default::default() }.build(&vs, 1e-2).unwrap();
        let ours = start.copy().set_requires_grad(true);
        let group = ParamGroup { factor: 1.0, tensors: vec![ours.shallow_clone()] };
        let options = AdamWOptions { weight_decay: 1e-2, clip_value: 1e9, ..Default::default() };
        let mut optimizer = AdamW::new(vec![group], options);
        for _ in 0..20 {
            reference.backward_step(&(&theirs - &target).square().sum(Kind::Float));
            optimizer.zero_grad();
            (&ours - &target).square().sum(Kind::Float).backward();
            optimizer.step(1e-2, |_| true);
        }
        let gap = (ours - theirs).abs().max().double_value(&[]);
        assert!(gap < 1e-6, "{gap}");
    }
}
