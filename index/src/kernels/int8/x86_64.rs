//! AVX-512 VNNI and AVX2.

use std::arch::{is_x86_feature_detected, x86_64::*};

use super::{Kernel, LINE};

/// The kernels that this processor can run, fastest first.
pub(super) fn available() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
    {
        kernels.push(Kernel {
            name: "avx512-vnni",
            // SAFETY: the processor has the features; lengths are whole lines, as the callers of kernels check.
            rows: |query, rows, out| unsafe { vnni_rows(query, rows, out) },
        });
    }
    if is_x86_feature_detected!("avx2") {
        kernels.push(Kernel {
            name: "avx2",
            // SAFETY: as above.
            rows: |query, rows, out| unsafe { avx2_rows(query, rows, out) },
        });
    }
    kernels
}

/// The instruction multiplies the stored byte, which is 128 too large, so that 128 times the query's sum is too much.
fn excess(query: &[i8]) -> i32 {
    128 * query.iter().map(|&q| i32::from(q)).sum::<i32>()
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn vnni_rows(query: &[i8], rows: &[u8], out: &mut [i32]) {
    let width = query.len();
    let excess = excess(query);
    let (fours, rest) = out.as_chunks_mut::<4>();
    for (group, sums) in fours.iter_mut().enumerate() {
        // SAFETY: rows holds `out.len()` rows of `width` bytes, so four from here on.
        let found = unsafe { vnni_four(query, rows.as_ptr().add(group * 4 * width)) };
        *sums = found.map(|sum| sum - excess);
    }
    let done = fours.len() * 4;
    for (index, sum) in rest.iter_mut().enumerate() {
        // SAFETY: as above, one row.
        *sum = unsafe { vnni_one(query, rows.as_ptr().add((done + index) * width)) } - excess;
    }
}

/// Four rows at once: the query is loaded once, and four sums hide the instruction's latency.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn vnni_four(query: &[i8], rows: *const u8) -> [i32; 4] {
    let width = query.len();
    let mut sums = [_mm512_setzero_si512(); 4];
    for at in (0..width).step_by(LINE) {
        // SAFETY: `at + LINE <= width`, and `rows` points to four rows of that width.
        unsafe {
            let q = _mm512_loadu_si512(query.as_ptr().add(at).cast());
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_dpbusd_epi32(*sum, _mm512_loadu_si512(rows.add(row * width + at).cast()), q);
            }
        }
    }
    // Transposing adds: four registers of 16 sums to one register of 4 sums.
    let halves =
        sums.map(|sum| _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum)));
    let [a, b, c, d] = halves;
    let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let four = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
    let mut out = [0i32; 4];
    // SAFETY: `out` has room for the 16 bytes.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), four) };
    out
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn vnni_one(query: &[i8], row: *const u8) -> i32 {
    let mut sum = _mm512_setzero_si512();
    for at in (0..query.len()).step_by(LINE) {
        // SAFETY: `at + LINE <= query.len()`, and `row` is as long.
        unsafe {
            let q = _mm512_loadu_si512(query.as_ptr().add(at).cast());
            sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(row.add(at).cast()), q);
        }
    }
    _mm512_reduce_add_epi32(sum)
}

#[target_feature(enable = "avx2")]
unsafe fn avx2_rows(query: &[i8], rows: &[u8], out: &mut [i32]) {
    let width = query.len();
    let excess = excess(query);
    for (index, out) in out.iter_mut().enumerate() {
        let mut sum = _mm256_setzero_si256();
        for at in (0..width).step_by(16) {
            // SAFETY: `at + 16 <= width`, and rows holds `out.len()` rows of that width.
            unsafe {
                let q = _mm256_cvtepi8_epi16(_mm_loadu_si128(query.as_ptr().add(at).cast()));
                let row = _mm256_cvtepu8_epi16(_mm_loadu_si128(rows.as_ptr().add(index * width + at).cast()));
                // 16-bit products, because the byte instruction saturates.
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(q, row));
            }
        }
        *out = avx2_sum(sum) - excess;
    }
}

#[target_feature(enable = "avx2")]
fn avx2_sum(sum: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}
