//! A first look at a node: one bit per value, in one cache line for up to 448 of them.
//!
//! Most nodes that a walk meets are farther than what it has already. A sketch shows that for a sixth of the memory traffic of
//! the 8-bit codes. Vectors are rotated at random first, so that their values are alike in size; then the signs `s` of a vector
//! `x` give `q.x` as about `q.s / x.s`, with an error of about `0.76 / sqrt(dim)` (Gao and Long, RaBitQ, 2024). The query has 3 bits a
//! value.

use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

use crate::{block::Block, kernels, memory::Rows};

/// Bits of a query's value.
const BITS: usize = 3;
/// Words of a cache line.
const LINE_WORDS: usize = 8;
/// Error of an estimate, times the square root of the length, for values that are normally distributed: `sqrt(pi / 2 - 1)` from the
/// signs, and about 0.3 from rounding a query that reaches three standard deviations to 8 levels.
const ERROR: f32 = 0.82;
/// Errors that are allowed for.
const ERRORS: f32 = 1.5;

/// Sketches of all nodes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sketches {
    dim: usize,
    /// Words of bits of a node.
    words: usize,
    /// Words of a node: its bits; `1 / x.s` as f32 and, above it, the number of ones; and, if what fills up the line has room, the value of
    /// a step of its codes, so that a walk need not fetch that from elsewhere.
    stride: usize,
    records: Block<u64>,
    rotation: Rotation,
}

/// A query as it is compared with sketches.
#[derive(Default)]
pub(super) struct QuerySketch {
    /// For each word of bits its [`BITS`] planes.
    planes: Vec<[u64; BITS]>,
    /// Value of level 0, and of a step.
    low: f32,
    step: f32,
    /// Sum of the values.
    sum: f32,
    /// How far an estimate may be off.
    margin: f32,
}

impl Sketches {
    pub(super) fn of(rows: &Rows, nodes: usize) -> Self {
        let dim = rows.dim();
        let words = dim.div_ceil(64);
        let stride = (words + 1).next_multiple_of(LINE_WORDS);
        let rotation = Rotation::new(dim);
        let mut records = Block::filled(0u64, nodes * stride);
        records.par_chunks_mut(stride).enumerate().with_min_len(256).for_each_init(
            Vec::new,
            |rotated, (node, record)| {
                rotation.apply(rows.vector(node as u32), rotated);
                for (word, values) in record.iter_mut().zip(rotated.chunks(64)) {
                    *word = values.iter().rev().fold(0, |bits, &value| bits << 1 | u64::from(value >= 0.0));
                }
                let ones: u32 = record[..words].iter().map(|word| word.count_ones()).sum();
                let factor = 1.0 / sum(rotated, f32::abs).max(f32::MIN_POSITIVE);
                record[words] = u64::from(ones) << 32 | u64::from(factor.to_bits());
                if let Some(room) = record.get_mut(words + 1) {
                    *room = u64::from(rows.scale(node as u32).to_bits());
                }
            },
        );
        Self { dim, words, stride, records, rotation }
    }

    /// Memory in use, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(&self.records[..]) as u64
    }

    pub(super) fn query(&self, query: &[f32]) -> QuerySketch {
        let mut rotated = Vec::new();
        self.rotation.apply(query, &mut rotated);
        let (low, high) = range(&rotated);
        let sum = sum(&rotated, |value| value);
        let step = ((high - low) / ((1 << BITS) - 1) as f32).max(f32::MIN_POSITIVE);
        let steps = 1.0 / step;
        // Rounded by cutting off, as nothing is below 0.
        let level = |value: f32| ((value - low) * steps + 0.5) as i32 as u8;
        let mut planes = vec![[0u64; BITS]; self.words];
        for (planes, values) in planes.iter_mut().zip(rotated.chunks(64)) {
            for (group, eight) in values.chunks(8).enumerate() {
                let mut levels = [0u8; 8];
                levels.iter_mut().zip(eight).for_each(|(to, &value)| *to = level(value));
                let levels = u64::from_le_bytes(levels);
                for (bit, plane) in planes.iter_mut().enumerate() {
                    *plane |= gather(levels >> bit) << (8 * group);
                }
            }
        }
        QuerySketch { planes, low, step, sum, margin: ERRORS * ERROR / (self.dim as f32).sqrt() }
    }

    #[inline]
    fn record(&self, node: u32) -> &[u64] {
        &self.records[node as usize * self.stride..][..self.stride]
    }

    /// Asks the processor for a node's sketch.
    #[inline]
    pub(super) fn prefetch(&self, node: u32) {
        kernels::prefetch(self.record(node));
    }

    /// Value of a step of a node's codes, if there was room for it.
    #[inline]
    pub(super) fn scale(&self, node: u32) -> Option<f32> {
        self.record(node).get(self.words + 1).map(|&room| f32::from_bits(room as u32))
    }

    /// Leaves out the nodes that almost certainly score less than `floor`.
    #[inline]
    pub(super) fn sift(&self, query: &QuerySketch, floor: f32, nodes: &mut Vec<u32>) {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has the feature.
            return unsafe { self.sift_popcnt(query, floor, nodes) };
        }
        self.sift_any(query, floor, nodes);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "popcnt")]
    fn sift_popcnt(&self, query: &QuerySketch, floor: f32, nodes: &mut Vec<u32>) {
        self.sift_any(query, floor, nodes);
    }

    #[inline(always)]
    fn sift_any(&self, query: &QuerySketch, floor: f32, nodes: &mut Vec<u32>) {
        let least = floor - query.margin;
        let mut kept = 0;
        for at in 0..nodes.len() {
            let node = nodes[at];
            // Without a branch: which nodes stay cannot be foreseen.
            nodes[kept] = node;
            kept += usize::from(self.estimate(query, node) >= least);
        }
        nodes.truncate(kept);
    }

    /// Estimates of the scores of nodes, in order.
    #[inline]
    pub(super) fn estimates(&self, query: &QuerySketch, nodes: &[u32], estimates: &mut Vec<f32>) {
        nodes.iter().for_each(|&node| self.prefetch(node));
        estimates.clear();
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has the feature.
            return unsafe { self.estimates_popcnt(query, nodes, estimates) };
        }
        self.estimates_any(query, nodes, estimates);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "popcnt")]
    fn estimates_popcnt(&self, query: &QuerySketch, nodes: &[u32], estimates: &mut Vec<f32>) {
        self.estimates_any(query, nodes, estimates);
    }

    #[inline(always)]
    fn estimates_any(&self, query: &QuerySketch, nodes: &[u32], estimates: &mut Vec<f32>) {
        // Not by an iterator's methods, which would be compiled for any processor.
        estimates.resize(nodes.len(), 0.0);
        for at in 0..nodes.len() {
            estimates[at] = self.estimate(query, nodes[at]);
        }
    }

    #[inline(always)]
    fn estimate(&self, query: &QuerySketch, node: u32) -> f32 {
        let (bits, rest) = self.record(node).split_at(self.words);
        let mut sums = [0u32; BITS];
        for (&bits, planes) in bits.iter().zip(&query.planes) {
            for (sum, plane) in sums.iter_mut().zip(planes) {
                *sum += (bits & plane).count_ones();
            }
        }
        let levels = sums.iter().rev().fold(0, |levels, sum| 2 * levels + sum);
        let ones = (rest[0] >> 32) as u32;
        let positive = query.low * ones as f32 + query.step * levels as f32;
        (2.0 * positive - query.sum) * f32::from_bits(rest[0] as u32)
    }
}

/// The lowest bits of eight bytes, side by side.
fn gather(bytes: u64) -> u64 {
    // Each product with a byte's bit lands in the highest byte at that byte's place; nothing else does.
    (bytes & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Values side by side, as many as fit in a register.
const LANES: usize = 8;

fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (rows, rest) = values.as_chunks::<LANES>();
    for row in rows {
        for lane in 0..LANES {
            sums[lane] += of(row[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&value| of(value)).sum::<f32>()
}

/// Least and greatest of the values.
fn range(values: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (rows, rest) = values.as_chunks::<LANES>();
    for row in rows {
        for lane in 0..LANES {
            low[lane] = if row[lane] < low[lane] { row[lane] } else { low[lane] };
            high[lane] = if row[lane] > high[lane] { row[lane] } else { high[lane] };
        }
    }
    let low = low.iter().chain(rest).copied().fold(f32::INFINITY, f32::min);
    (low, high.iter().chain(rest).copied().fold(low, f32::max))
}

/// A random rotation, always the same for a length: signs and Hadamard transforms of the first and the last values, of neighbours,
/// and again of the first and the last.
#[derive(Clone, Debug, PartialEq)]
struct Rotation {
    /// The sign bits that are changed in each round.
    signs: [Vec<u32>; ROUNDS],
    /// Values that a transform takes: a power of two of rows.
    part: usize,
}

const ROUNDS: usize = 4;
const SEED: u64 = 0x726f_7461_7465;

impl Rotation {
    fn new(dim: usize) -> Self {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(SEED);
        let mut signs = || (0..dim).map(|_| u32::from(random.random::<bool>()) << 31).collect();
        let rows = dim / LANES;
        let part = if rows == 0 { 0 } else { LANES << rows.ilog2() };
        Self { signs: [signs(), signs(), signs(), signs()], part }
    }

    fn apply(&self, vector: &[f32], rotated: &mut Vec<f32>) {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { self.apply_avx2(vector, rotated) };
        }
        self.apply_any(vector, rotated);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn apply_avx2(&self, vector: &[f32], rotated: &mut Vec<f32>) {
        self.apply_any(vector, rotated);
    }

    #[inline(always)]
    fn apply_any(&self, vector: &[f32], rotated: &mut Vec<f32>) {
        rotated.clear();
        rotated.extend_from_slice(vector);
        for (round, signs) in self.signs.iter().enumerate() {
            if round == ROUNDS / 2 {
                for row in rotated.as_chunks_mut().0 {
                    hadamard_row(row);
                }
            }
            for (value, sign) in rotated.iter_mut().zip(signs) {
                *value = f32::from_bits(value.to_bits() ^ sign);
            }
            let start = if round % 2 == 0 { 0 } else { rotated.len() - self.part };
            hadamard(&mut rotated[start..start + self.part]);
        }
    }
}

/// The orthogonal Hadamard transform of a row.
#[inline(always)]
fn hadamard_row(row: &mut [f32; LANES]) {
    for half in [1, 2, 4] {
        for at in (0..LANES).filter(|at| at & half == 0) {
            (row[at], row[at + half]) = (row[at] + row[at + half], row[at] - row[at + half]);
        }
    }
    let scale = (LANES as f32).sqrt().recip();
    for value in row {
        *value *= scale;
    }
}

/// The orthogonal Hadamard transform across rows of [`LANES`] values, a power of two of them.
#[inline(always)]
fn hadamard(values: &mut [f32]) {
    if values.is_empty() {
        return;
    }
    let mut half = LANES;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.as_chunks_mut::<LANES>().0.iter_mut().zip(b.as_chunks_mut::<LANES>().0) {
                for lane in 0..LANES {
                    (a[lane], b[lane]) = (a[lane] + b[lane], a[lane] - b[lane]);
                }
            }
        }
        half *= 2;
    }
    let scale = ((values.len() / LANES) as f32).sqrt().recip();
    for value in values {
        *value *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels, synthetic::clustered};

    #[test]
    fn bits_of_bytes_are_gathered_in_order() {
        for bits in 0..256u64 {
            let bytes = u64::from_le_bytes(std::array::from_fn(|at| (bits >> at & 1) as u8));
            assert_eq!(gather(bytes), bits);
        }
    }

    #[test]
    fn rotating_keeps_lengths_and_angles() {
        for dim in [1, 5, 64, 100, 384] {
            let set = clustered(2, 0, dim, 5);
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let rotation = Rotation::new(dim);
            rotation.apply(&set.vectors[..dim], &mut a);
            rotation.apply(&set.vectors[dim..], &mut b);
            let before = kernels::dot(&set.vectors[..dim], &set.vectors[dim..]);
            assert!(
                (kernels::dot(&a, &a) - 1.0).abs() < 1e-5 && (kernels::dot(&a, &b) - before).abs() < 1e-5
            );
        }
    }

    #[test]
    fn estimates_are_as_good_as_they_claim() {
        for dim in [64, 100, 384] {
            let set = clustered(400, 20, dim, 6);
            let mut rows = Rows::new(dim);
            for (row, vector) in (0u64..).zip(set.vectors.chunks_exact(dim)) {
                rows.push(row, vector);
            }
            let sketches = Sketches::of(&rows, rows.len());
            let (mut squares, mut lost, mut count) = (0f64, 0usize, 0usize);
            for vector in set.queries.chunks_exact(dim) {
                let query = sketches.query(vector);
                for node in 0..rows.len() as u32 {
                    let score = kernels::dot(vector, rows.vector(node));
                    squares += f64::from(sketches.estimate(&query, node) - score).powi(2);
                    let mut nodes = vec![node];
                    sketches.sift(&query, score, &mut nodes);
                    lost += usize::from(nodes.is_empty());
                    count += 1;
                }
            }
            let error = (squares / count as f64).sqrt() * (dim as f64).sqrt();
            assert!(error < 1.1 * f64::from(ERROR), "{error} at {dim}");
            assert!(lost * 8 < count, "{lost} of {count} at {dim}");
        }
    }
}
