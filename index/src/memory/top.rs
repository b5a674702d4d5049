//! The best of many scored slots.

use std::cmp::Ordering;

/// A slot and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) score: f32,
    pub(crate) slot: u32,
    product: u32,
}

impl Scored {
    /// Best first; equal scores by slot, which is the order of upserts.
    fn order(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.slot.cmp(&other.slot))
    }
}

/// Keeps the best slots, or the best slot of each of the best products.
///
/// A sorted list: of many offers few get past the worst that is kept, so that keeping order is cheap.
#[derive(Clone)]
pub(super) struct Top {
    wanted: usize,
    threshold: f32,
    by_product: bool,
    kept: Vec<Scored>,
}

impl Top {
    pub(super) fn new(wanted: usize, threshold: Option<f32>, by_product: bool) -> Self {
        Self { wanted, threshold: threshold.unwrap_or(f32::NEG_INFINITY), by_product, kept: Vec::new() }
    }

    /// How many are kept at most.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Scores below this are not among the best.
    pub(super) fn floor(&self) -> f32 {
        match self.kept.last() {
            _ if self.wanted == 0 => f32::INFINITY,
            Some(worst) if self.kept.len() == self.wanted => worst.score.max(self.threshold),
            _ => self.threshold,
        }
    }

    /// Offers slots in any order.
    pub(super) fn offer(&mut self, slot: u32, product: u32, score: f32) {
        let offered = Scored { score, slot, product };
        if score < self.floor() || self.wanted == 0 {
            return;
        }
        let place = self.kept.partition_point(|kept| kept.order(&offered) == Ordering::Less);
        if place == self.wanted {
            return;
        }
        if self.by_product {
            match self.kept.iter().position(|kept| kept.product == product) {
                Some(same) if same < place => return,
                Some(same) => {
                    self.kept.remove(same);
                }
                None => {}
            }
        }
        self.kept.truncate(self.wanted - 1);
        self.kept.insert(place, offered);
    }

    /// The best, best first.
    pub(super) fn finish(self) -> Vec<Scored> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_sorting(
            scores in prop::collection::vec((0u8..20, 0u32..6), 0..60),
            wanted in 0usize..12,
            by_product: bool,
            threshold in prop::option::of(0u8..20),
        ) {
            let mut top = Top::new(wanted, threshold.map(f32::from), by_product);
            let mut all: Vec<Scored> = Vec::new();
            for (slot, (score, product)) in (0u32..).zip(scores) {
                top.offer(slot, product, score.into());
                all.push(Scored { score: score.into(), slot, product });
            }
            all.sort_by(Scored::order);
            all.retain(|one| threshold.is_none_or(|threshold| one.score >= threshold.into()));
            if by_product {
                let mut seen = std::collections::HashSet::new();
                all.retain(|one| seen.insert(one.product));
            }
            all.truncate(wanted);
            prop_assert_eq!(top.finish(), all);
        }
    }
}
