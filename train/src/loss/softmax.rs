//! Softmax cross-entropy on a linear classifier.

use dfml_models::{Architecture, TensorMap};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Reduction, Tensor};

use super::EmbeddingLoss;
use crate::nn::params::from_host;

/// Settings of [`Softmax`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SoftmaxConfig {
    /// Share of the target that is spread over all classes, [0, 1).
    pub label_smoothing: f64,
}

/// Classification: a linear layer on the embedding and cross-entropy, averaged over the batch.
#[derive(Debug)]
pub struct Softmax {
    /// `[classes, dim]`, a leaf that requires gradient.
    pub weight: Tensor,
    /// `[classes]`, a leaf that requires gradient.
    pub bias: Tensor,
    /// Settings.
    pub config: SoftmaxConfig,
}

impl Softmax {
    /// A fresh classifier from libtorch's global generator, as timm starts one: weights normal with standard deviation
    /// 0.02, biases 0.
    pub fn new(config: SoftmaxConfig, classes: i64, dim: i64, device: Device) -> Self {
        let weight = (Tensor::randn([classes, dim], (Kind::Float, device)) * 0.02).set_requires_grad(true);
        let bias = Tensor::zeros([classes], (Kind::Float, device)).set_requires_grad(true);
        Self { weight, bias, config }
    }

    /// The classifier that a pretrained file of `architecture` holds, if it is for `classes` classes and features of the
    /// network's own output length; None if there is no such.
    pub fn pretrained(
        config: SoftmaxConfig,
        architecture: &Architecture,
        weights: &TensorMap,
        classes: usize,
        device: Device,
    ) -> Option<Self> {
        let [weight, bias] = architecture.classifier_tensors().map(|name| weights.get(name));
        let (weight, bias) = weight.zip(bias)?;
        if weight.shape != [classes, architecture.embedding_dim()] || bias.shape != [classes] {
            return None;
        }
        let [weight, bias] = [weight, bias].map(|host| from_host(host, device).set_requires_grad(true));
        Some(Self { weight, bias, config })
    }

    /// Scores `[batch, classes]` of `embeddings` `[batch, dim]`.
    pub fn logits(&self, embeddings: &Tensor) -> Tensor {
        embeddings.linear(&self.weight, Some(&self.bias))
    }

    /// The loss of `embeddings` with `labels`.
    ///
    /// # Shapes
    /// `embeddings` `[batch, dim]`, `labels` `[batch]` int64 in `0..classes`; returns a scalar.
    pub fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Tensor {
        let smoothing = self.config.label_smoothing;
        self.logits(embeddings).cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, smoothing)
    }
}

impl EmbeddingLoss for Softmax {
    fn loss(&self, embeddings: &Tensor, labels: &Tensor, _: &mut ChaCha8Rng) -> Tensor {
        self.forward(embeddings, labels)
    }

    fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("weight", &self.weight), ("bias", &self.bias)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfml_models::preset;

    #[test]
    fn a_pretrained_classifier_is_taken_where_it_fits() {
        let architecture = preset("resnet50").unwrap().architecture;
        let host = |shape: Vec<usize>, value| dfml_models::Tensor::full(shape, value);
        let weights = TensorMap::from([
            ("fc.weight".to_owned(), host(vec![10, 2048], 0.5)),
            ("fc.bias".to_owned(), host(vec![10], 0.25)),
        ]);
        let load = |architecture: &Architecture, classes| {
            Softmax::pretrained(SoftmaxConfig::default(), architecture, &weights, classes, Device::Cpu)
        };
        let head = load(&architecture, 10).unwrap();
        let x = Tensor::ones([1, 2048], (Kind::Float, Device::Cpu));
        assert_eq!(head.logits(&x).double_value(&[0, 9]), 1024.25);
        assert!(head.weight.requires_grad() && load(&architecture, 11).is_none());
        assert!(load(&architecture.with_embedding_layer(Some(64)), 10).is_none());
    }

    #[test]
    fn values_and_gradients_are_those_of_the_definition() {
        let config = SoftmaxConfig { label_smoothing: 0.1 };
        let head = Softmax::new(config, 3, 2, Device::Cpu);
        let x = Tensor::from_slice2(&[[1f32, 2.], [-1., 0.5]]);
        let loss = head.forward(&x, &Tensor::from_slice(&[2i64, 0]));
        loss.backward();

        let (mut expected, mut bias_gradient) = (0.0, [0.0; 3]);
        for (row, label) in [2usize, 0].into_iter().enumerate() {
            let score: Vec<f64> = (0..3)
                .map(|c| {
                    (0..2).map(|d| x.double_value(&[row as i64, d]) * head.weight.double_value(&[c, d])).sum()
                })
                .collect();
            let normaliser: f64 = score.iter().map(|s| f64::exp(*s)).sum();
            for class in 0..3 {
                let target = 0.1 / 3.0 + if class == label { 0.9 } else { 0.0 };
                let probability = score[class].exp() / normaliser;
                expected -= target * probability.ln() / 2.0;
                bias_gradient[class] += (probability - target) / 2.0;
            }
        }
        assert!((loss.double_value(&[]) - expected).abs() < 1e-6);
        for (class, expected) in bias_gradient.into_iter().enumerate() {
            assert!((head.bias.grad().double_value(&[class as i64]) - expected).abs() < 1e-6);
        }
    }
}
