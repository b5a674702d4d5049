//! Margin loss with distance-weighted sampling (Wu et al., ICCV 2017).

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::EmbeddingLoss;
use super::pairs::{distances, nothing, to_host_labels};
use super::triplet::{Triple, gather, to_rows};

/// Settings of [`Margin`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarginConfig {
    /// Half the width of the zone around beta in which pairs cost something.
    pub margin: f64,
    /// Start value of beta, the distance that divides positive from negative pairs.
    pub beta: f64,
    /// Weight of beta's mean in the loss.
    pub nu: f64,
    /// Negatives nearer than this are drawn as if they were this far.
    pub lower_cutoff: f64,
}

impl Default for MarginConfig {
    fn default() -> Self {
        Self { margin: 0.2, beta: 1.2, nu: 0.0, lower_cutoff: 0.5 }
    }
}

/// One triplet per image: a random positive, and a negative drawn with probability inverse to how many points of the
/// sphere lie at its distance. Both pairs are judged against beta, which is learned per class.
#[derive(Debug)]
pub struct Margin {
    /// `[classes]`, a leaf that requires gradient.
    pub beta: Tensor,
    /// Settings.
    pub config: MarginConfig,
}

impl Margin {
    /// With every class's beta at its start value.
    pub fn new(config: MarginConfig, classes: i64, device: Device) -> Self {
        let beta = Tensor::full([classes], config.beta, (Kind::Float, device)).set_requires_grad(true);
        Self { beta, config }
    }

    /// The loss of `embeddings` with `labels`; triplets are drawn from `rng`.
    ///
    /// # Shapes
    /// `embeddings` `[batch, dim]`, L2-normalised, `labels` `[batch]` int64 in `0..classes`; returns a scalar.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor, rng: &mut ChaCha8Rng) -> Tensor {
        let host_labels = to_host_labels(labels);
        let dim = embeddings.size()[1];
        let distance = to_rows(&tch::no_grad(|| distances(&embeddings.detach())));
        let triplets: Vec<Triple> = (0..host_labels.len())
            .filter_map(|anchor| {
                let weights = negative_weights(anchor, &host_labels, &distance[anchor], dim, &self.config);
                sample(anchor, &host_labels, &weights, rng)
            })
            .collect();
        self.of_triplets(embeddings, labels, &triplets)
    }

    fn of_triplets(&self, embeddings: &Tensor, labels: &Tensor, triplets: &[Triple]) -> Tensor {
        if triplets.is_empty() {
            return nothing(embeddings);
        }
        let [anchor, positive, negative] = gather(embeddings, triplets);
        let distance = |other: Tensor| {
            ((&anchor - other).square().sum_dim_intlist(1i64, false, Kind::Float) + 1e-8).sqrt()
        };
        let anchors: Vec<i64> = triplets.iter().map(|triple| triple[0]).collect();
        let classes = labels.index_select(0, &Tensor::from_slice(&anchors).to_device(labels.device()));
        let beta = self.beta.index_select(0, &classes);
        let pull = (distance(positive) - &beta + self.config.margin).relu();
        let push = (&beta - distance(negative) + self.config.margin).relu();
        let costly = (pull.greater(0.0).sum(Kind::Float) + push.greater(0.0).sum(Kind::Float)).clamp_min(1.0);
        (pull + push).sum(Kind::Float) / costly + beta.mean(Kind::Float) * self.config.nu
    }
}

/// Unnormalised probabilities of the batch as negatives of `anchor`: the inverse density of distances on the unit sphere in
/// `dim` dimensions; 0 for images of the anchor's class.
fn negative_weights(
    anchor: usize,
    labels: &[i64],
    distance: &[f32],
    dim: i64,
    config: &MarginConfig,
) -> Vec<f64> {
    let dim = dim as f64;
    let log_inverse_density = |&d: &f32| {
        let d = f64::from(d).max(config.lower_cutoff);
        // Antipodes (d = 2) have density 0; keep their weight finite.
        (2.0 - dim) * d.ln() - (dim - 3.0) / 2.0 * (1.0 - 0.25 * d * d).max(1e-8).ln()
    };
    let logs: Vec<f64> = distance.iter().map(log_inverse_density).collect();
    let is_negative = |i: usize| labels[i] != labels[anchor];
    let largest =
        (0..logs.len()).filter(|&i| is_negative(i)).map(|i| logs[i]).fold(f64::NEG_INFINITY, f64::max);
    (0..logs.len()).map(|i| if is_negative(i) { (logs[i] - largest).exp() } else { 0.0 }).collect()
}

/// A triplet for `anchor`; None without a positive or a negative.
fn sample(anchor: usize, labels: &[i64], weights: &[f64], rng: &mut ChaCha8Rng) -> Option<Triple> {
    let positives: Vec<usize> =
        (0..labels.len()).filter(|&i| i != anchor && labels[i] == labels[anchor]).collect();
    let total: f64 = weights.iter().sum();
    if positives.is_empty() || total.is_nan() || total <= 0.0 {
        return None;
    }
    let positive = positives[rng.random_range(0..positives.len())];
    let mut left = rng.random::<f64>() * total;
    let negative = (0..weights.len()).filter(|&i| weights[i] > 0.0).find(|&i| {
        left -= weights[i];
        left <= 0.0
    });
    // Rounding can leave a rest after the last one.
    let negative = negative.or_else(|| (0..weights.len()).rev().find(|&i| weights[i] > 0.0))?;
    Some([anchor as i64, positive as i64, negative as i64])
}

impl EmbeddingLoss for Margin {
    fn loss(&self, embeddings: &Tensor, labels: &Tensor, rng: &mut ChaCha8Rng) -> Tensor {
        self.forward(embeddings, labels, rng)
    }

    fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("beta", &self.beta)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn negatives_are_drawn_by_inverse_density_of_their_distance() {
        // In 4 dimensions the density of d is d^2 sqrt(1 - d^2/4).
        let density = |d: f64| d * d * (1.0 - d * d / 4.0).sqrt();
        let labels = [0, 0, 1, 1, 1];
        let distance = [0.0, 0.8, 0.3, 1.0, 1.4];
        let weights = negative_weights(0, &labels, &distance, 4, &MarginConfig::default());
        assert_eq!(&weights[..2], [0.0, 0.0]);
        let ratio = density(1.0) / density(0.5);
        assert!((weights[2] / weights[3] - ratio).abs() < 1e-6, "{weights:?}");
        assert!(
            (weights[3] / weights[4] - density(f64::from(1.4f32)) / density(1.0)).abs() < 1e-6,
            "{weights:?}"
        );

        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let n = 20_000;
        let drawn: Vec<Triple> = (0..n).map(|_| sample(0, &labels, &weights, &mut rng).unwrap()).collect();
        assert!(drawn.iter().all(|t| t[1] == 1));
        let total: f64 = weights.iter().sum();
        for (place, weight) in weights.iter().enumerate().skip(2) {
            let share = drawn.iter().filter(|t| t[2] == place as i64).count() as f64 / f64::from(n);
            assert!((share - weight / total).abs() < 0.02, "{place}: {share}");
        }
    }

    #[test]
    fn values_and_gradients_are_those_worked_out_by_hand() {
        let x = Tensor::from_slice2(&[[0f32, 0.], [1.1, 0.], [0., 1.3], [0., 3.]]).set_requires_grad(true);
        let labels = Tensor::from_slice(&[0i64, 0, 1, 1]);
        let margin = Margin::new(MarginConfig::default(), 2, Device::Cpu);
        // Pull 1.1 - 1.2 + 0.2 = 0.1; push 1.2 - 1.3 + 0.2 = 0.1, and 1.2 - 3 + 0.2 < 0: three costly pairs.
        let loss = margin.of_triplets(&x, &labels, &[[0, 1, 2], [0, 1, 3]]);
        assert!((loss.double_value(&[]) - 0.1).abs() < 1e-6, "{loss:?}");
        loss.backward();
        // Two pulls and one push: beta's gradient is (-2 + 1) / 3.
        let gradient = margin.beta.grad();
        assert!((gradient.double_value(&[0]) + 1.0 / 3.0).abs() < 1e-6, "{gradient:?}");
        assert_eq!(gradient.double_value(&[1]), 0.0);
        assert!((x.grad().double_value(&[1, 0]) - 2.0 / 3.0).abs() < 1e-6);
        assert!((x.grad().double_value(&[2, 1]) + 1.0 / 3.0).abs() < 1e-6);
    }
}
