//! Percentiles of a histogram of durations.

use prometheus::{Histogram, core::Metric};

/// A distribution of durations, as a histogram has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// Upper bound in seconds and the count up to it.
    buckets: Vec<(f64, u64)>,
    count: u64,
}

impl Latency {
    pub(super) fn of(histogram: &Histogram) -> Self {
        let metric = histogram.metric();
        let found = metric.get_histogram();
        let buckets =
            found.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        Self { buckets: buckets.collect(), count: found.get_sample_count() }
    }

    /// How many durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The time in seconds within which this share of them lies, 0 to 1: straight between the bounds of its bucket, as
    /// Prometheus' `histogram_quantile` has it. `None` if there are none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let wanted = share * self.count as f64;
        let (mut below, mut before) = (0.0, 0u64);
        for &(bound, count) in &self.buckets {
            if count as f64 >= wanted && count > before {
                return Some(below + (bound - below) * (wanted - before as f64) / (count - before) as f64);
            }
            (below, before) = (bound, count);
        }
        // Beyond the last bound: at least that.
        Some(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_prometheus() {
        // 10 durations up to 1 s, 30 up to 2 s, 40 in all up to 4 s: worked out by hand.
        let latency = Latency { buckets: vec![(1.0, 10), (2.0, 30), (4.0, 40)], count: 50 };
        assert_eq!(latency.quantile(0.1), Some(0.5));
        assert_eq!(latency.quantile(0.4), Some(1.5));
        assert_eq!(latency.quantile(0.7), Some(3.0));
        assert_eq!(latency.quantile(0.99), Some(4.0), "beyond the last bound");
        assert_eq!(Latency::default().quantile(0.5), None);
    }
}
