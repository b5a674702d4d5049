//! The learning rate over the steps of a run.

use crate::config::Schedule;

/// Learning rate factor in (0, 1] at `step` (0-based) of `total` with `per_epoch` steps per epoch.
pub fn learning_rate(schedule: Schedule, step: usize, total: usize, per_epoch: usize) -> f64 {
    match schedule {
        Schedule::Cosine => {
            let progress = step as f64 / total.max(1) as f64;
            0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
        }
        Schedule::Step { epochs, gamma } => {
            let falls = step / per_epoch.max(1) / epochs.max(1);
            gamma.powi(falls as i32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_falls_every_so_many_epochs() {
        let schedule = Schedule::Step { epochs: 2, gamma: 0.5 };
        let rates: Vec<f64> = (0..50).step_by(10).map(|s| learning_rate(schedule, s, 50, 10)).collect();
        assert_eq!(rates, [1.0, 1.0, 0.5, 0.5, 0.25]);
    }

    #[test]
    fn cosine_falls_from_one_towards_zero() {
        assert_eq!(learning_rate(Schedule::Cosine, 0, 100, 10), 1.0);
        assert!((learning_rate(Schedule::Cosine, 50, 100, 10) - 0.5).abs() < 1e-12);
        assert!(learning_rate(Schedule::Cosine, 99, 100, 10) < 1e-3);
    }
}
