//! Settings of the loss.

use serde::{Deserialize, Serialize};

use super::within;
use crate::loss::LossKind;

/// The loss `L(full) + routed * L(routed) + distill * (0.1 * sum ||routed - full|| + gaps)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Weight of the routed stream's loss; 0 with `distill` 0 trains the plain network.
    pub routed: f64,
    /// Weight of the distillation terms.
    pub distill: f64,
    /// Weight of the blocks' gaps inside the distillation terms.
    pub gap: f64,
    /// L, Proxy-Anchor if not set.
    pub metric: LossKind,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { routed: 0.5, distill: 0.5, gap: 2e-3 / 12.0, metric: LossKind::default() }
    }
}

impl LossConfig {
    /// Whether the routed stream is needed at all.
    pub fn is_routed(&self) -> bool {
        self.routed > 0.0 || self.distill > 0.0
    }

    pub(super) fn check(&self) -> Result<(), String> {
        within("loss.routed", self.routed, 0.0, f64::MAX)?;
        within("loss.distill", self.distill, 0.0, f64::MAX)?;
        within("loss.gap", self.gap, 0.0, f64::MAX)
    }
}
