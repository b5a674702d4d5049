//! Complete search: every allowed slot is estimated from its codes, and scored exactly unless a bound proves that it cannot be
//! among the best.

use super::{
    codes::QueryCodes,
    products::Products,
    rows::{Rows, ones},
    top::Top,
};

/// Candidates that are held before those that have become hopeless are dropped.
const POOL: usize = 4096;

/// A slot that may be among the best, and the most it can score.
struct Candidate {
    most: f32,
    slot: u32,
}

/// A search under way.
pub(super) struct Exact<'a> {
    rows: &'a Rows,
    products: &'a Products,
    query: &'a [f32],
    codes: QueryCodes,
    /// The best scores that are certain: each candidate's least possible one.
    certain: Top,
    pool: Vec<Candidate>,
    pool_limit: usize,
}

impl<'a> Exact<'a> {
    /// A search for what `top` is made to keep.
    pub(super) fn new(rows: &'a Rows, products: &'a Products, query: &'a [f32], top: &Top) -> Self {
        let pool_limit = top.wanted().saturating_mul(4).max(POOL);
        Self {
            rows,
            products,
            query,
            codes: QueryCodes::new(query),
            certain: top.clone(),
            pool: Vec::new(),
            pool_limit,
        }
    }

    /// Looks at the slots of a 64-slot word that are `wanted`.
    #[inline]
    pub(super) fn scan(&mut self, word: usize, wanted: u64) {
        if wanted != 0 {
            self.look(word, wanted);
        }
    }

    #[inline]
    fn look(&mut self, word: usize, wanted: u64) {
        let mut sums = [0i32; 64];
        self.rows.word_sums(&self.codes, word, wanted, &mut sums);
        let codings = self.rows.word_codings(word);
        let mut floor = self.certain.floor();
        // Nearly always none of the 64 comes near, which is found out without a branch for each.
        let mut hopeful = false;
        for (&sum, &coding) in sums.iter().zip(codings) {
            hopeful |= self.codes.estimate(sum, coding) + self.codes.bound(coding) >= floor;
        }
        if !hopeful {
            return;
        }
        for place in ones(wanted) {
            // Slots are counted in u32.
            let slot = (word * 64 + place) as u32;
            let (estimate, bound) =
                (self.codes.estimate(sums[place], codings[place]), self.codes.bound(codings[place]));
            if estimate + bound >= floor {
                self.certain.offer(slot, self.products.of(slot), estimate - bound);
                self.pool.push(Candidate { most: estimate + bound, slot });
                floor = self.certain.floor();
            }
        }
        if self.pool.len() > self.pool_limit {
            self.pool.retain(|candidate| candidate.most >= floor);
            self.pool_limit = self.pool_limit.max(self.pool.len() * 2);
        }
    }

    /// Scores candidates exactly, the most promising first, until no other can be among the best. The best go to `top`; returns
    /// how many were scored.
    pub(super) fn finish(mut self, top: &mut Top) -> usize {
        let floor = self.certain.floor();
        self.pool.retain(|candidate| candidate.most >= floor);
        self.pool.sort_unstable_by(|a, b| b.most.total_cmp(&a.most));
        let mut scored = 0;
        for Candidate { most, slot } in self.pool {
            if most < top.floor() {
                break;
            }
            top.offer(slot, self.products.of(slot), self.rows.score(self.query, slot));
            scored += 1;
        }
        scored
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::memory::bits::Bits;

    /// Rows around a few centres, so that many scores are close.
    fn clustered(count: usize, dim: usize, spread: f32) -> Vec<Vec<f32>> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let centres: Vec<Vec<f32>> =
            (0..20).map(|_| (0..dim).map(|_| random.random_range(-1f32..1.0)).collect()).collect();
        (0..count)
            .map(|index| {
                let near =
                    centres[index % 20].iter().map(|value| value + spread * random.random_range(-1f32..1.0));
                let near: Vec<f32> = near.collect();
                let length = near.iter().map(|value| value * value).sum::<f32>().sqrt();
                near.iter().map(|value| value / length).collect()
            })
            .collect()
    }

    #[test]
    fn finds_exactly_what_comparing_everything_finds() {
        let dim = 100;
        for spread in [0.01, 0.3, 1.0] {
            let vectors = clustered(3000, dim, spread);
            let (mut rows, mut products, mut live) = (Rows::new(dim), Products::default(), Bits::default());
            for (row, vector) in (0u64..).zip(&vectors) {
                let slot = rows.push(row * 3, vector);
                products.push(slot, &(row / 4).to_string());
                live.insert(slot);
            }
            for query in vectors.iter().step_by(97) {
                for by_product in [false, true] {
                    let empty = Top::new(10, None, by_product);
                    let (mut expected, mut found) = (empty.clone(), empty.clone());
                    for slot in 0..3000 {
                        expected.offer(slot, products.of(slot), rows.score(query, slot));
                    }
                    let mut exact = Exact::new(&rows, &products, query, &empty);
                    (0..live.words()).for_each(|word| exact.scan(word, live.word(word)));
                    let scored = exact.finish(&mut found);
                    assert_eq!(found.finish(), expected.finish());
                    assert!(scored < 3000 / 2, "the bound spares little: {scored}");
                }
            }
        }
    }
}
