//! Pairs of a batch: which are of one class, and how far apart.

use tch::{Kind, Tensor};

use crate::nn::l2_normalize;

/// Which pairs (row, column) are of one class and which are not, `[batch, batch]` bool each; an image makes no pair with itself.
pub(super) struct Pairs {
    pub(super) positive: Tensor,
    pub(super) negative: Tensor,
}

impl Pairs {
    pub(super) fn new(labels: &Tensor) -> Self {
        let same = labels.unsqueeze(0).eq_tensor(&labels.unsqueeze(1));
        let own = Tensor::eye(labels.size()[0], (Kind::Bool, labels.device()));
        Self { positive: same.logical_and(&own.logical_not()), negative: same.logical_not() }
    }
}

/// Cosine of every two rows, `[batch, batch]`.
pub(super) fn cosines(embeddings: &Tensor) -> Tensor {
    let unit = l2_normalize(embeddings);
    unit.matmul(&unit.transpose(0, 1))
}

/// Euclidean distance of every two rows, `[batch, batch]`; the gradient at distance 0 is 0.
pub(super) fn distances(x: &Tensor) -> Tensor {
    // Compute mode 2: no expansion into dot products, which loses what small distances there are.
    Tensor::cdist(x, x, 2.0, 2)
}

/// `log(1 + sum of exp(x))` over the kept elements of each row.
pub(super) fn log_one_plus_sum_exp(x: &Tensor, keep: &Tensor) -> Tensor {
    let kept = x.masked_fill(&keep.logical_not(), f64::NEG_INFINITY);
    let one = Tensor::zeros([x.size()[0], 1], (x.kind(), x.device()));
    Tensor::cat(&[kept, one], 1).logsumexp(1i64, false)
}

/// 0, with a zero gradient to `x`.
pub(super) fn nothing(x: &Tensor) -> Tensor {
    x.sum(x.kind()) * 0.0
}

/// A tensor of integers in host memory.
pub(super) fn to_host_labels(labels: &Tensor) -> Vec<i64> {
    let labels = labels.to_device(tch::Device::Cpu).to_kind(Kind::Int64).contiguous();
    let mut host = vec![0i64; labels.numel()];
    let len = host.len();
    labels.copy_data(&mut host, len);
    host
}
