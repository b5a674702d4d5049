//! From a similarity to the probability that two pictures show the same product.

use serde::{Deserialize, Serialize};

/// Bins of a reliability diagram.
pub const RELIABILITY_BINS: usize = 10;

/// P(same product | similarity), fitted on the hits of real searches: a non-decreasing function, straight between its knots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// How it was fitted.
    pub method: CalibrationMethod,
    /// What it was fitted on, and judged on.
    pub dataset: String,
    /// Hits that it was fitted on.
    pub fitted_hits: usize,
    /// Hits of other products that it was judged on.
    pub judged_hits: usize,
    /// Expected calibration error on those: the mean distance of probability and truth, 0 to 1.
    pub expected_calibration_error: f64,
    /// Similarity and probability, both ascending.
    pub knots: Vec<Knot>,
}

/// How a calibration was fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// Least squares among non-decreasing functions, found by pooling adjacent violators.
    Isotonic,
}

/// A point of the function.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knot {
    /// Cosine similarity, -1 to 1.
    pub similarity: f64,
    /// Probability, 0 to 1.
    pub probability: f64,
}

/// One hit of a search whose truth is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Cosine similarity of query and hit.
    pub similarity: f64,
    /// Whether the hit shows the query's product.
    pub is_same: bool,
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Hits in it.
    pub hits: usize,
    /// Their mean predicted probability.
    pub predicted: f64,
    /// The share of them that shows the same product.
    pub observed: f64,
}

/// There is nothing to fit: no hits, only one kind of hits, or a similarity that is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a calibration needs right and wrong hits with finite similarities to be fitted on: {same} right and {other} wrong are given"
)]
pub struct CalibrationError {
    /// Right hits that were given.
    pub same: usize,
    /// Wrong hits that were given.
    pub other: usize,
}

/// A run of hits that the fit gives one probability.
struct Block {
    weight: f64,
    similarity_sum: f64,
    same: f64,
}

impl Block {
    fn probability(&self) -> f64 {
        self.same / self.weight
    }

    fn absorb(&mut self, next: &Self) {
        self.weight += next.weight;
        self.similarity_sum += next.similarity_sum;
        self.same += next.same;
    }
}

/// The non-decreasing function nearest to the truth of these hits, as knots at the mean similarity of each of its steps.
///
/// # Errors
/// [`CalibrationError`] unless there are hits of both kinds, all with finite similarities.
pub fn fit_isotonic(hits: &[Judged]) -> Result<Vec<Knot>, CalibrationError> {
    let same = hits.iter().filter(|hit| hit.is_same).count();
    let other = hits.len() - same;
    if same == 0 || other == 0 || hits.iter().any(|hit| !hit.similarity.is_finite()) {
        return Err(CalibrationError { same, other });
    }
    let mut sorted = hits.to_vec();
    sorted.sort_by(|a, b| a.similarity.total_cmp(&b.similarity));
    let mut blocks: Vec<Block> = Vec::new();
    for hit in sorted {
        let mut block =
            Block { weight: 1.0, similarity_sum: hit.similarity, same: f64::from(u8::from(hit.is_same)) };
        // Equal similarities are one point; a step down is pooled with what comes before.
        while let Some(last) = blocks.pop_if(|last| {
            last.probability() >= block.probability()
                || last.similarity_sum / last.weight >= block.similarity_sum / block.weight
        }) {
            let next = std::mem::replace(&mut block, last);
            block.absorb(&next);
        }
        blocks.push(block);
    }
    Ok(blocks
        .iter()
        .map(|block| Knot {
            similarity: block.similarity_sum / block.weight,
            probability: block.probability(),
        })
        .collect())
}

impl Calibration {
    /// The probability that a hit of this similarity shows the same product as the query.
    pub fn probability(&self, similarity: f64) -> f64 {
        interpolate(&self.knots, similarity)
    }

    /// The least similarity of at least this probability; `None` if none is that certain.
    pub fn similarity(&self, probability: f64) -> Option<f64> {
        let position = self.knots.iter().position(|knot| knot.probability >= probability)?;
        let above = self.knots[position];
        let Some(below) = position.checked_sub(1).map(|before| self.knots[before]) else {
            // Below the first knot the function is flat.
            return Some(-1.0);
        };
        let share = (probability - below.probability) / (above.probability - below.probability);
        Some(below.similarity + share * (above.similarity - below.similarity))
    }

    /// What is wrong with the knots, if anything: there are some, finite, ascending, probabilities from 0 to 1.
    pub fn validate(&self) -> Result<(), String> {
        let in_range = |knot: &Knot| knot.similarity.is_finite() && (0.0..=1.0).contains(&knot.probability);
        let ascending =
            self.knots.is_sorted_by(|a, b| a.similarity < b.similarity && a.probability <= b.probability);
        if self.knots.is_empty() || !ascending || !self.knots.iter().all(in_range) {
            return Err("the knots of its calibration are not an ascending function to 0..=1".to_owned());
        }
        Ok(())
    }
}

/// Straight between the knots, flat outside.
fn interpolate(knots: &[Knot], similarity: f64) -> f64 {
    let after = knots.partition_point(|knot| knot.similarity <= similarity);
    match (after.checked_sub(1).map(|before| knots[before]), knots.get(after)) {
        (None, Some(first)) => first.probability,
        (Some(last), None) => last.probability,
        (Some(below), Some(above)) => {
            let share = (similarity - below.similarity) / (above.similarity - below.similarity);
            below.probability + share * (above.probability - below.probability)
        }
        (None, None) => 0.0,
    }
}

/// Bins of equal width by predicted probability, and the expected calibration error over them: the mean over all hits of
/// |predicted - observed| of their bin (Naeini et al., 2015).
pub fn reliability(knots: &[Knot], hits: &[Judged]) -> (Vec<ReliabilityBin>, f64) {
    let mut sums = [(0usize, 0.0f64, 0usize); RELIABILITY_BINS];
    for hit in hits {
        let predicted = interpolate(knots, hit.similarity);
        let bin = ((predicted * RELIABILITY_BINS as f64) as usize).min(RELIABILITY_BINS - 1);
        sums[bin].0 += 1;
        sums[bin].1 += predicted;
        sums[bin].2 += usize::from(hit.is_same);
    }
    let mut error = 0.0;
    let bins = sums
        .iter()
        .map(|&(count, predicted, same)| {
            if count == 0 {
                return ReliabilityBin::default();
            }
            error += (predicted - same as f64).abs();
            ReliabilityBin {
                hits: count,
                predicted: predicted / count as f64,
                observed: same as f64 / count as f64,
            }
        })
        .collect();
    (bins, error / (hits.len().max(1)) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(hits: &[(f64, bool)]) -> Vec<Judged> {
        hits.iter().map(|&(similarity, is_same)| Judged { similarity, is_same }).collect()
    }

    fn calibration(knots: Vec<Knot>) -> Calibration {
        Calibration {
            method: CalibrationMethod::Isotonic,
            dataset: String::new(),
            fitted_hits: 1,
            judged_hits: 1,
            expected_calibration_error: 0.0,
            knots,
        }
    }

    /// Truths 0 1 0 1 1 in order of similarity: the violating pair in the middle is pooled to a half, by hand.
    #[test]
    fn pooling_gives_the_known_answer() {
        let hits = judged(&[(0.5, true), (0.1, false), (0.3, false), (0.2, true), (0.4, true)]);
        let knots = fit_isotonic(&hits).expect("both kinds");
        let rounded: Vec<(f64, f64)> =
            knots.iter().map(|k| ((k.similarity * 1e6).round() / 1e6, k.probability)).collect();
        assert_eq!(rounded, [(0.1, 0.0), (0.25, 0.5), (0.45, 1.0)]);
        let calibration = calibration(knots);
        assert_eq!(calibration.validate(), Ok(()));
        assert!((calibration.probability(0.35) - 0.75).abs() < 1e-9, "half way between two knots");
        assert_eq!((calibration.probability(-1.0), calibration.probability(1.0)), (0.0, 1.0));
        assert!((calibration.similarity(0.75).expect("reached") - 0.35).abs() < 1e-9);
        assert_eq!(calibration.similarity(0.0), Some(-1.0));
    }

    #[test]
    fn equal_similarities_are_one_point_and_no_certainty_is_none() {
        let hits = judged(&[(0.4, true), (0.4, false), (0.4, true), (0.4, true), (0.1, false)]);
        let knots = fit_isotonic(&hits).expect("both kinds");
        assert_eq!(knots.len(), 2, "{knots:?}");
        assert_eq!(knots[1].probability, 0.75);
        assert_eq!(calibration(knots).similarity(0.9), None);
        assert!(fit_isotonic(&judged(&[(0.4, true)])).is_err());
        assert!(fit_isotonic(&judged(&[(f64::NAN, true), (0.1, false)])).is_err());
    }

    /// Hits drawn from a known curve: the fit recovers it, and its error on fresh hits is small where a wrong curve's is not.
    #[test]
    fn recovers_the_curve_that_hits_were_drawn_from() {
        use rand::{RngExt, SeedableRng};
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        let truth = |similarity: f64| 1.0 / (1.0 + (-12.0 * (similarity - 0.6)).exp());
        let mut draw = |count: usize| -> Vec<Judged> {
            (0..count)
                .map(|_| {
                    let similarity = random.random_range(0.0..1.0);
                    Judged { similarity, is_same: random.random_range(0.0..1.0) < truth(similarity) }
                })
                .collect()
        };
        let knots = fit_isotonic(&draw(20_000)).expect("both kinds");
        for similarity in [0.3, 0.5, 0.6, 0.7, 0.9] {
            let found = interpolate(&knots, similarity);
            assert!((found - truth(similarity)).abs() < 0.05, "{similarity}: {found}");
        }
        let fresh = draw(20_000);
        let (bins, error) = reliability(&knots, &fresh);
        assert!(error < 0.02, "expected calibration error {error}");
        assert_eq!(bins.iter().map(|bin| bin.hits).sum::<usize>(), fresh.len());
        let raw = [Knot { similarity: 0.0, probability: 0.0 }, Knot { similarity: 1.0, probability: 1.0 }];
        assert!(reliability(&raw, &fresh).1 > 0.1, "a similarity is no probability");
    }
}
