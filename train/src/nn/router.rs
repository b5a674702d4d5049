//! The router: which sub-block an image (or token) takes.

use tch::{Kind, Tensor};

/// A router's decision for rows (images or tokens), in order and grouped by sub-block.
#[derive(Debug)]
pub(super) struct Routing {
    /// Probabilities `[rows, K]`, with gradient.
    pub(super) soft: Tensor,
    /// Chosen sub-block per row, 0-based int64 `[rows]`.
    pub(super) choice: Tensor,
}

impl Routing {
    /// Routes `input` `[rows, features]` by the bias-free linear `weight` `[K, features]`: softmax and arg-max.
    pub(super) fn new(input: &Tensor, weight: &Tensor) -> Self {
        let soft = input.matmul(&weight.transpose(0, 1)).softmax(-1, None);
        let choice = tch::no_grad(|| soft.argmax(-1, false));
        Self { soft, choice }
    }

    /// One-hot choice `[rows, K]` with the straight-through gradient `(hard - soft).detach() + soft` (DFML, official code).
    pub(super) fn gate(&self) -> Tensor {
        let hard = self.choice.one_hot(self.soft.size()[1]).to_kind(self.soft.kind());
        (hard - &self.soft).detach() + &self.soft
    }

    /// Rows grouped by their choice.
    pub(super) fn groups(&self) -> Groups {
        Groups::new(&self.choice, self.soft.size()[1])
    }
}

/// Rows grouped by their sub-block.
#[derive(Debug)]
pub(super) struct Groups {
    /// Rows in order of sub-block.
    pub(super) order: Tensor,
    /// Where each row went.
    pub(super) inverse: Tensor,
    /// Rows per sub-block.
    pub(super) counts: Vec<i64>,
}

impl Groups {
    fn new(choice: &Tensor, k: i64) -> Self {
        tch::no_grad(|| {
            let order = choice.argsort_stable(true, 0, false);
            let positions = Tensor::arange(choice.size()[0], (Kind::Int64, choice.device()));
            let inverse = order.zeros_like().scatter(0, &order, &positions);
            let counted = choice.bincount(None::<&Tensor>, k).to_device(tch::Device::Cpu);
            let counts = (0..k).map(|k| counted.int64_value(&[k])).collect();
            Self { order, inverse, counts }
        })
    }

    /// Each sub-block's rows, in ascending order.
    pub(super) fn places(&self) -> Vec<Tensor> {
        self.order.split_with_sizes(self.counts.as_slice(), 0)
    }

    /// The rows that chose another sub-block than `index`, in ascending order.
    pub(super) fn others(&self, index: usize) -> Tensor {
        let places = self.places();
        let others: Vec<&Tensor> =
            places.iter().enumerate().filter(|(k, _)| *k != index).map(|(_, places)| places).collect();
        Tensor::cat(&others, 0).sort(0, false).0
    }
}

/// Zero in value, `x` in gradient.
pub(super) fn without_value(x: &Tensor) -> Tensor {
    x - x.detach()
}
