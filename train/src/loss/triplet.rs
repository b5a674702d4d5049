//! Triplet loss (Schroff et al., CVPR 2015) with semi-hard sampling.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::EmbeddingLoss;
use super::pairs::{distances, nothing, to_host_labels};

/// Settings of [`Triplet`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TripletConfig {
    /// How much farther than the positive a negative should be, in squared distance.
    pub margin: f64,
}

impl Default for TripletConfig {
    fn default() -> Self {
        Self { margin: 0.2 }
    }
}

/// One triplet per image, as the official DFML code samples them: a random positive among those farther than the
/// nearest negative, a random negative among those nearer than the farthest positive; any, where there is none such.
#[derive(Debug, Clone, Copy, Default)]
pub struct Triplet {
    /// Settings.
    pub config: TripletConfig,
}

/// Anchor, positive and negative: places in the batch.
pub(super) type Triple = [i64; 3];

impl Triplet {
    /// The loss of `embeddings` with `labels`; triplets are drawn from `rng`.
    ///
    /// # Shapes
    /// `embeddings` `[batch, dim]` as they are to be compared (usually normalised), `labels` `[batch]` int64; returns
    /// a scalar.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor, rng: &mut ChaCha8Rng) -> Tensor {
        let labels = to_host_labels(labels);
        let distance = to_rows(&tch::no_grad(|| distances(&embeddings.detach())));
        let triplets: Vec<Triple> =
            (0..labels.len()).filter_map(|anchor| sample(anchor, &labels, &distance[anchor], rng)).collect();
        self.of_triplets(embeddings, &triplets)
    }

    /// Mean of `max(0, |a - p|^2 - |a - n|^2 + margin)` over given triplets of places in the batch.
    fn of_triplets(&self, embeddings: &Tensor, triplets: &[Triple]) -> Tensor {
        if triplets.is_empty() {
            return nothing(embeddings);
        }
        let [anchor, positive, negative] = gather(embeddings, triplets);
        let squared = |other: Tensor| (&anchor - other).square().sum_dim_intlist(1i64, false, Kind::Float);
        (squared(positive) - squared(negative) + self.config.margin).relu().mean(Kind::Float)
    }
}

/// A triplet for `anchor`, whose distances to the batch are `distance`; None without a positive or a negative.
fn sample(anchor: usize, labels: &[i64], distance: &[f32], rng: &mut ChaCha8Rng) -> Option<Triple> {
    let of = |same: bool| -> Vec<usize> {
        (0..labels.len()).filter(|&i| i != anchor && (labels[i] == labels[anchor]) == same).collect()
    };
    let (positives, negatives) = (of(true), of(false));
    let farthest = positives.iter().map(|&i| distance[i]).reduce(f32::max)?;
    let nearest = negatives.iter().map(|&i| distance[i]).reduce(f32::min)?;
    let hard_positives: Vec<usize> = positives.iter().copied().filter(|&i| distance[i] > nearest).collect();
    let hard_negatives: Vec<usize> = negatives.iter().copied().filter(|&i| distance[i] < farthest).collect();
    let mut draw = |hard: Vec<usize>, any: Vec<usize>| {
        let from = if hard.is_empty() { any } else { hard };
        from[rng.random_range(0..from.len())] as i64
    };
    Some([anchor as i64, draw(hard_positives, positives), draw(hard_negatives, negatives)])
}

/// The rows of anchors, positives and negatives, `[triplets, dim]` each.
pub(super) fn gather(embeddings: &Tensor, triplets: &[Triple]) -> [Tensor; 3] {
    [0, 1, 2].map(|role| {
        let places: Vec<i64> = triplets.iter().map(|triple| triple[role]).collect();
        embeddings.index_select(0, &Tensor::from_slice(&places).to_device(embeddings.device()))
    })
}

/// A matrix as rows in host memory.
pub(super) fn to_rows(matrix: &Tensor) -> Vec<Vec<f32>> {
    let host = crate::nn::params::to_host(matrix);
    let width = host.shape.last().copied().unwrap_or(1).max(1);
    host.data.chunks(width).map(<[f32]>::to_vec).collect()
}

impl EmbeddingLoss for Triplet {
    fn loss(&self, embeddings: &Tensor, labels: &Tensor, rng: &mut ChaCha8Rng) -> Tensor {
        self.forward(embeddings, labels, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use tch::Device;

    #[test]
    fn triplets_are_semi_hard_where_there_are_such() {
        // On a line: anchor 0 at 0, positives at 1 and 4, negatives at 2, 3 and 9.
        let labels = [0, 0, 0, 1, 1, 1];
        let distance = [0.0, 1.0, 4.0, 2.0, 3.0, 9.0];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<Triple> = (0..200).map(|_| sample(0, &labels, &distance, &mut rng).unwrap()).collect();
        assert!(drawn.iter().all(|t| t[0] == 0 && t[1] == 2 && (t[2] == 3 || t[2] == 4)), "{drawn:?}");
        assert!(drawn.iter().any(|t| t[2] == 3) && drawn.iter().any(|t| t[2] == 4));
        // All negatives beyond all positives: any will do.
        let easy = [0.0, 1.0, 1.5, 7.0, 8.0, 9.0];
        let drawn: Vec<Triple> = (0..200).map(|_| sample(0, &labels, &easy, &mut rng).unwrap()).collect();
        for (role, place) in [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5)] {
            assert!(drawn.iter().any(|t| t[role] == place), "{place}");
        }
    }

    #[test]
    fn values_and_gradients_are_those_worked_out_by_hand() {
        let x = Tensor::from_slice2(&[[0f32, 0.], [1., 0.], [0., 1.1], [3., 0.]]).set_requires_grad(true);
        // |a-p|^2 - |a-n|^2 + 0.2: 1 - 1.21 + 0.2 < 0, and with roles swapped 1.21 - 1 + 0.2.
        let loss = Triplet::default().of_triplets(&x, &[[0, 1, 2], [0, 2, 1]]);
        assert!((loss.double_value(&[]) - 0.205).abs() < 1e-6, "{loss:?}");
        loss.backward();
        let expected = Tensor::from_slice2(&[[1f32, -1.1], [-1., 0.], [0., 1.1], [0., 0.]]);
        assert!((x.grad() - expected).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn a_batch_of_one_class_or_of_singles_costs_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let x = Tensor::randn([4, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        for labels in [[1i64, 1, 1, 1], [0, 1, 2, 3]] {
            let loss = Triplet::default().forward(&x, &Tensor::from_slice(&labels), &mut rng);
            loss.backward();
            assert_eq!(loss.double_value(&[]), 0.0);
            assert_eq!(x.grad().abs().max().double_value(&[]), 0.0);
        }
    }
}
