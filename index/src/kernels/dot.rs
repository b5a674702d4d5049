//! Dot product of f32 vectors.

/// Independent sums, so that additions need not wait for each other.
const LANES: usize = 32;

/// Dot product of two vectors of equal length.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature.
            return unsafe { dot_avx512(a, b) };
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: the processor has both features.
            return unsafe { dot_avx2(a, b) };
        }
    }
    sum::<{ cfg!(target_arch = "aarch64") }>(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
fn dot_avx512(a: &[f32], b: &[f32]) -> f32 {
    sum::<true>(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    sum::<true>(a, b)
}

/// The compiler turns this into the vector instructions of the function that it is inlined into. `FUSED` only where the
/// processor multiplies and adds in one instruction: elsewhere that is a slow library call.
#[inline(always)]
fn sum<const FUSED: bool>(a: &[f32], b: &[f32]) -> f32 {
    let multiply_add = |x: f32, y: f32, sum: f32| if FUSED { x.mul_add(y, sum) } else { x * y + sum };
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] = multiply_add(x[lane], y[lane], sums[lane]);
        }
    }
    for (lane, (&x, &y)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] = multiply_add(x, y, sums[lane]);
    }
    // Halving keeps the order of additions, and so the result, the same for every vector width.
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_doubles(pairs in prop::collection::vec((-1f32..1.0, -1f32..1.0), 0..200)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let expected: f64 = a.iter().zip(&b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            prop_assert!((f64::from(dot(&a, &b)) - expected).abs() < 1e-5);
            prop_assert!((f64::from(sum::<false>(&a, &b)) - expected).abs() < 1e-5);
        }
    }
}
