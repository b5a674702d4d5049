//! Dot products of 8-bit codes. Every kernel gives exactly the integers of the scalar one.
//!
//! A row's code, -127..=127, is stored as `code + 128`, because some processors' instructions multiply unsigned by signed bytes.
//! Rows and queries are padded to whole lines of [`LINE`] bytes; the query's padding is 0, a row's is 128.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::sync::LazyLock;

/// Rows and queries are whole multiples of this many bytes: one cache line, one AVX-512 register.
pub(crate) const LINE: usize = 64;
/// Rows that [`dot_four`] takes.
pub(crate) const FOUR: usize = 4;

/// A set of loops for one kind of processor. Lengths are checked before they are called.
struct Kernel {
    name: &'static str,
    /// A query with rows that lie one behind the other.
    rows: fn(query: &[i8], rows: &[u8], out: &mut [i32]),
    /// A query with four rows from anywhere.
    four: fn(query: &[i8], rows: [&[u8]; FOUR]) -> [i32; FOUR],
    /// Two rows.
    pair: fn(a: &[u8], b: &[u8]) -> i32,
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

/// The same for four rows that need not lie together.
///
/// # Panics
/// If the query is not whole lines, or a row is not as long as the query.
#[inline]
pub(crate) fn dot_four(query: &[i8], rows: [&[u8]; FOUR]) -> [i32; FOUR] {
    assert!(query.len().is_multiple_of(LINE) && rows.iter().all(|row| row.len() == query.len()));
    (KERNEL.four)(query, rows)
}

/// Sum over `j` of `(a[j] - 128) * (b[j] - 128)`.
///
/// # Panics
/// If the rows are not whole lines, or not of one length.
#[inline]
pub(crate) fn dot_pair(a: &[u8], b: &[u8]) -> i32 {
    assert!(a.len().is_multiple_of(LINE) && a.len() == b.len());
    (KERNEL.pair)(a, b)
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
                for extreme in [false, true] {
                    let mut byte = || match extreme {
                        true => [1u8, 255][usize::from(random.random::<bool>())],
                        false => random.random_range(1..=255),
                    };
                    let rows: Vec<u8> = (0..width * count).map(|_| byte()).collect();
                    let query: Vec<i8> = (0..width).map(|_| (byte() ^ 0x80) as i8).collect();
                    compare(&query, &rows, count);
                }
            }
        }
    }

    fn compare(query: &[i8], rows: &[u8], count: usize) {
        let width = query.len();
        let mut expected = vec![0; count];
        (scalar::KERNEL.rows)(query, rows, &mut expected);
        let stored: Vec<u8> = query.iter().map(|&code| (code as u8) ^ 0x80).collect();
        let row = |index: usize| &rows[index * width..][..width];
        for kernel in available() {
            let mut found = vec![i32::MAX; count];
            (kernel.rows)(query, rows, &mut found);
            assert_eq!(found, expected, "{}, {count} rows of {width}", kernel.name);
            if count >= FOUR {
                // Not in the order in which they lie.
                let four = (kernel.four)(query, [row(count - 1), row(0), row(2), row(0)]);
                let wanted = [expected[count - 1], expected[0], expected[2], expected[0]];
                assert_eq!(four, wanted, "{}, four rows of {width}", kernel.name);
            }
            for (index, &expected) in expected.iter().enumerate() {
                assert_eq!((kernel.pair)(&stored, row(index)), expected, "{}, a pair", kernel.name);
            }
        }
    }

    #[test]
    fn the_scalar_kernel_is_the_definition() {
        let query: Vec<i8> = (0..64).map(|index| index as i8 - 30).collect();
        let row: Vec<u8> = (0..64).map(|index| 255 - 3 * index).collect();
        let expected: i32 = (0..64).map(|index| (index - 30) * (255 - 3 * index - 128)).sum();
        let mut found = [0];
        (scalar::KERNEL.rows)(&query, &row, &mut found);
        assert_eq!(found, [expected]);
    }
}
