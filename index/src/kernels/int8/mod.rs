//! Dot products of 8-bit codes. Every kernel gives exactly the integers of the scalar one.
//!
//! A row's code is stored as `code + 128` in 0..=255, because the processors' instructions multiply unsigned by signed bytes. Rows
//! and queries are padded to whole lines of [`LINE`] bytes; the query's padding is 0, a row's is 128.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::sync::LazyLock;

/// Rows and queries are whole multiples of this many bytes: one cache line, one AVX-512 register.
pub(crate) const LINE: usize = 64;

/// A set of loops for one kind of processor.
struct Kernel {
    name: &'static str,
    /// Lengths are checked before.
    rows: fn(query: &[i8], rows: &[u8], out: &mut [i32]),
}

static KERNEL: LazyLock<Kernel> = LazyLock::new(|| available().into_iter().next().unwrap_or(scalar::KERNEL));

/// The kernels that this processor can run, fastest first.
fn available() -> Vec<Kernel> {
    #[cfg(target_arch = "x86_64")]
    let mut kernels = x86_64::available();
    #[cfg(target_arch = "aarch64")]
    let mut kernels = aarch64::available();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let mut kernels = Vec::new();
    kernels.push(scalar::KERNEL);
    kernels
}

/// Name of the kernel in use.
pub(crate) fn kernel_name() -> &'static str {
    KERNEL.name
}

/// `out[i]` = sum over `j` of `query[j] * (rows[i][j] - 128)`.
///
/// # Panics
/// If the query is not whole lines, or `rows` is not `out.len()` rows as long as the query.
#[inline]
pub(crate) fn dot_rows(query: &[i8], rows: &[u8], out: &mut [i32]) {
    assert!(query.len().is_multiple_of(LINE) && rows.len() == query.len() * out.len());
    (KERNEL.rows)(query, rows, out);
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn all_kernels_give_the_scalar_integers() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(8);
        for lines in [1, 2, 3, 6, 12] {
            let width = lines * LINE;
            for count in [0usize, 1, 3, 4, 5, 64] {
                let extreme = random.random_bool(0.3);
                let mut byte = || {
                    if extreme { [0u8, 255][usize::from(random.random::<bool>())] } else { random.random() }
                };
                let rows: Vec<u8> = (0..width * count).map(|_| byte()).collect();
                let query: Vec<i8> = (0..width).map(|_| (byte().wrapping_sub(128) as i8).max(-127)).collect();
                let mut expected = vec![0; count];
                (scalar::KERNEL.rows)(&query, &rows, &mut expected);
                for kernel in available() {
                    let mut found = vec![i32::MAX; count];
                    (kernel.rows)(&query, &rows, &mut found);
                    assert_eq!(found, expected, "{}, {count} rows of {width}", kernel.name);
                }
            }
        }
    }
}
