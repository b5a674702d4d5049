//! How often a classifier is right.

use serde::Serialize;
use tch::{Kind, Tensor};

/// Counts of right answers over the batches of an evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Accuracy {
    /// Images judged.
    pub images: u64,
    /// Images whose class has the highest score.
    pub first: u64,
    /// Images whose class is among the five highest scores.
    pub first_five: u64,
}

impl Accuracy {
    /// Adds a batch. Where scores are equal, the true class is counted behind the others, so that a classifier that
    /// tells nothing apart is never right.
    ///
    /// # Shapes
    /// `logits` `[batch, classes]`, `labels` `[batch]` int64 in `0..classes`.
    pub fn add(&mut self, logits: &Tensor, labels: &Tensor) {
        let own = logits.gather(1, &labels.unsqueeze(1), false);
        let ahead = logits.greater_equal_tensor(&own).sum_dim_intlist(1i64, false, Kind::Int64) - 1;
        // Negative where the score is not a number, which is no right answer.
        let is_score = ahead.greater_equal(0);
        let below =
            |rank: i64| ahead.less(rank).logical_and(&is_score).sum(Kind::Int64).int64_value(&[]) as u64;
        self.images += logits.size()[0] as u64;
        self.first += below(1);
        self.first_five += below(5);
    }

    /// Share of images whose class has the highest score; 0 of no images.
    pub fn top1(&self) -> f64 {
        self.first as f64 / self.images.max(1) as f64
    }

    /// Share of images whose class is among the five highest scores; 0 of no images.
    pub fn top5(&self) -> f64 {
        self.first_five as f64 / self.images.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_counted_as_by_hand() {
        let logits = Tensor::from_slice2(&[
            [9f32, 1., 2., 3., 4., 5., 6.], // class 0: first
            [9., 1., 2., 3., 4., 5., 6.],   // class 3: fifth
            [9., 1., 2., 3., 4., 5., 6.],   // class 2: sixth
            [1., 1., 0., 0., 0., 0., 0.],   // class 1: tied, so second
        ]);
        let mut accuracy = Accuracy::default();
        accuracy.add(&logits, &Tensor::from_slice(&[0i64, 3, 2, 1]));
        assert_eq!(accuracy, Accuracy { images: 4, first: 1, first_five: 3 });
        accuracy
            .add(&Tensor::zeros([2, 7], (Kind::Float, tch::Device::Cpu)), &Tensor::from_slice(&[0i64, 1]));
        let broken = Tensor::full([1, 7], f64::NAN, (Kind::Float, tch::Device::Cpu));
        let mut of_broken = Accuracy::default();
        of_broken.add(&broken, &Tensor::from_slice(&[0i64]));
        assert_eq!(of_broken, Accuracy { images: 1, first: 0, first_five: 0 });
        assert_eq!((accuracy.top1(), accuracy.top5()), (1.0 / 6.0, 0.5));
    }
}
