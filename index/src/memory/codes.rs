//! Vectors in 8 bits a value, and how far off they may be.

use crate::kernels::LINE;

/// Largest code. -128 is not used, so that codes are symmetric.
const MAX_CODE: f32 = 127.0;
/// Stored vectors have unit length within this (as checked on entry), a bit more for rounding.
const LENGTH_MAX: f32 = 1.002;

/// Bytes of a row of codes: `dim` rounded up to whole lines.
pub(super) fn width(dim: usize) -> usize {
    dim.next_multiple_of(LINE)
}

/// What a row's codes mean: `value = code * scale`, up to an error vector of at most the length `error`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coding {
    pub(super) scale: f32,
    pub(super) error: f32,
}

/// Writes the codes of a vector as stored bytes, padding to whole lines included.
pub(super) fn encode_row(vector: &[f32], bytes: &mut [u8]) -> Coding {
    bytes[vector.len()..].fill(128);
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both features.
        return unsafe { encode_avx2(vector, bytes) };
    }
    encode(vector, bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn encode_avx2(vector: &[f32], bytes: &mut [u8]) -> Coding {
    encode(vector, bytes)
}

/// Values that are worked on side by side; the compiler makes vector instructions of it.
const LANES: usize = 16;
/// Added to a small number, it leaves room for the integer part only: the sum is rounded, and its last byte is the integer's.
const ROUNDER: f32 = 1.5 * (1 << 23) as f32;

#[inline(always)]
fn encode(vector: &[f32], bytes: &mut [u8]) -> Coding {
    let mut largest = [0f32; LANES];
    for values in vector.chunks(LANES) {
        for (largest, value) in largest.iter_mut().zip(values) {
            *largest = if value.abs() > *largest { value.abs() } else { *largest };
        }
    }
    let largest = largest.into_iter().fold(0f32, f32::max);
    let scale = if largest > 0.0 { largest / MAX_CODE } else { 1.0 };
    let steps = 1.0 / scale;
    let mut squares = [0f32; LANES];
    let one = |value: f32, byte: &mut u8, square: &mut f32| {
        let rounded = value * steps + ROUNDER;
        *byte = rounded.to_bits() as u8 ^ 0x80;
        let error = value - (rounded - ROUNDER) * scale;
        *square += error * error;
    };
    let (chunks, rest) = vector.as_chunks::<LANES>();
    let bytes = bytes.as_chunks_mut::<LANES>().0;
    for (values, bytes) in chunks.iter().zip(bytes.iter_mut()) {
        for lane in 0..LANES {
            one(values[lane], &mut bytes[lane], &mut squares[lane]);
        }
    }
    let tail = bytes.get_mut(chunks.len()).into_iter().flatten();
    for ((&value, byte), square) in rest.iter().zip(tail).zip(&mut squares) {
        one(value, byte, square);
    }
    // Rounded up, also for the rounding of the errors themselves: a bound must not be too small.
    Coding { scale, error: squares.iter().sum::<f32>().sqrt() * 1.000_1 + 2.0 * f32::EPSILON }
}

/// A query of unit length in codes.
pub(crate) struct QueryCodes {
    codes: Vec<i8>,
    coding: Coding,
    /// The bound for a row is its error times this, plus that.
    bound_factor: f32,
    bound_base: f32,
}

impl QueryCodes {
    pub(crate) fn new(query: &[f32]) -> Self {
        let mut bytes = vec![0u8; width(query.len())];
        let coding = encode_row(query, &mut bytes);
        let codes = bytes.into_iter().map(|byte| (byte ^ 0x80) as i8).collect();
        // Allows for rounding in the scores that estimates are compared with, too.
        let rounding = (query.len() as f32 / 16.0 + 16.0) * f32::EPSILON;
        Self {
            codes,
            coding,
            bound_factor: LENGTH_MAX + coding.error,
            bound_base: coding.error * LENGTH_MAX + rounding,
        }
    }

    /// The codes, padded with zeros to whole lines.
    #[inline]
    pub(crate) fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// The score that an integer dot product with a row's codes stands for.
    #[inline]
    pub(crate) fn estimate(&self, sum: i32, row: Coding) -> f32 {
        self.scaled(sum, row.scale)
    }

    /// The same for a row whose step has this value.
    #[inline]
    pub(crate) fn scaled(&self, sum: i32, scale: f32) -> f32 {
        sum as f32 * (self.coding.scale * scale)
    }

    /// How far the estimate for a row may be from its score: with q' and x' the decoded query and row,
    /// |q.x - q'.x'| <= |q| |x - x'| + |q - q'| |x'|.
    #[inline]
    pub(super) fn bound(&self, row: Coding) -> f32 {
        row.error * self.bound_factor + self.bound_base
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels;

    fn unit(values: Vec<f32>) -> Option<Vec<f32>> {
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        (length > 1e-3).then(|| values.iter().map(|value| value / length).collect())
    }

    proptest! {
        #[test]
        fn the_score_is_within_the_bound(pairs in prop::collection::vec((-1f32..1.0, -1f32..1.0), 1..300), spike in 0f32..30.0) {
            let (mut a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            a[0] += spike;
            let (Some(a), Some(b)) = (unit(a), unit(b)) else { return Ok(()) };
            let query = QueryCodes::new(&a);
            let mut bytes = vec![0; width(b.len())];
            let row = encode_row(&b, &mut bytes);
            let mut sum = [0];
            kernels::dot_rows(&query.codes, &bytes, &mut sum);
            let estimate = query.estimate(sum[0], row);
            prop_assert!((kernels::dot(&a, &b) - estimate).abs() <= query.bound(row));
        }
    }
}
