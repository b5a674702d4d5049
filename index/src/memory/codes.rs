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

/// Finds codes for a vector; `set` receives each, in order.
fn encode(vector: &[f32], mut set: impl FnMut(usize, i8)) -> Coding {
    let largest = vector.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { largest / MAX_CODE } else { 1.0 };
    let mut squares = 0f64;
    for (index, &value) in vector.iter().enumerate() {
        let code = (value / scale).round().clamp(-MAX_CODE, MAX_CODE);
        set(index, code as i8);
        squares += (f64::from(value) - f64::from(code) * f64::from(scale)).powi(2);
    }
    // Rounded up: a bound must not be too small.
    Coding { scale, error: (squares.sqrt() * 1.000_001) as f32 }
}

/// Writes the codes of a vector as stored bytes, padding included.
pub(super) fn encode_row(vector: &[f32], bytes: &mut [u8]) -> Coding {
    bytes.fill(128);
    encode(vector, |index, code| bytes[index] = (code as u8) ^ 0x80)
}

/// A query of unit length in codes.
pub(crate) struct QueryCodes {
    codes: Vec<i8>,
    coding: Coding,
    /// Allowance for rounding in the scores that estimates are compared with.
    rounding: f32,
}

impl QueryCodes {
    pub(crate) fn new(query: &[f32]) -> Self {
        let mut codes = vec![0i8; width(query.len())];
        let coding = encode(query, |index, code| codes[index] = code);
        let rounding = (query.len() as f32 / 16.0 + 16.0) * f32::EPSILON;
        Self { codes, coding, rounding }
    }

    /// The codes, padded with zeros to whole lines.
    #[inline]
    pub(crate) fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// The score that an integer dot product with a row's codes stands for.
    #[inline]
    pub(crate) fn estimate(&self, sum: i32, row: Coding) -> f32 {
        sum as f32 * (self.coding.scale * row.scale)
    }

    /// How far the estimate for a row may be from its score: with q' and x' the decoded query and row,
    /// |q.x - q'.x'| <= |q| |x - x'| + |q - q'| |x'|.
    #[inline]
    pub(super) fn bound(&self, row: Coding) -> f32 {
        LENGTH_MAX * row.error + self.coding.error * (LENGTH_MAX + row.error) + self.rounding
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
