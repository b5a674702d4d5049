//! Dynamic loss scaling for 16-bit gradients.

use serde::{Deserialize, Serialize};

/// Steps without an overflow after which the scale doubles.
const GROWTH_INTERVAL: u32 = 2000;
const SCALE_MAX: f64 = 16_777_216.0;

/// The factor on the loss that keeps small gradients above the smallest 16-bit number: doubled now and then, halved when a gradient
/// overflows (the rule of torch's GradScaler).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct LossScale {
    scale: f64,
    good_steps: u32,
    is_dynamic: bool,
}

impl LossScale {
    /// No scaling, for 32-bit gradients.
    pub(super) fn none() -> Self {
        Self { scale: 1.0, good_steps: 0, is_dynamic: false }
    }

    /// Scaling that adapts itself, from 65,536 on.
    pub(super) fn dynamic() -> Self {
        Self { scale: 65_536.0, good_steps: 0, is_dynamic: true }
    }

    /// The factor on the loss.
    pub(super) fn factor(&self) -> f64 {
        self.scale
    }

    /// Whether gradients must be looked at before a step.
    pub(super) fn is_dynamic(&self) -> bool {
        self.is_dynamic
    }

    /// Learns whether the gradients of a step were finite; a step with gradients that were not is to be left out.
    pub(super) fn update(&mut self, is_finite: bool) {
        if !self.is_dynamic {
            return;
        }
        if !is_finite {
            self.scale = (self.scale / 2.0).max(1.0);
            self.good_steps = 0;
            return;
        }
        self.good_steps += 1;
        if self.good_steps == GROWTH_INTERVAL {
            self.scale = (self.scale * 2.0).min(SCALE_MAX);
            self.good_steps = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_halves_on_overflow_and_doubles_after_many_good_steps() {
        let mut scale = LossScale::dynamic();
        scale.update(false);
        assert_eq!(scale.factor(), 32_768.0);
        (0..GROWTH_INTERVAL).for_each(|_| scale.update(true));
        assert_eq!(scale.factor(), 65_536.0);
        (0..40).for_each(|_| scale.update(false));
        assert_eq!(scale.factor(), 1.0, "it never falls below 1");
        let mut none = LossScale::none();
        none.update(false);
        assert_eq!(none.factor(), 1.0);
    }
}
