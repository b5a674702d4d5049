//! AVX-512 VNNI and AVX2.

use std::arch::{is_x86_feature_detected, x86_64::*};

use super::{FOUR, Kernel, LINE};

/// The kernels that this processor can run, fastest first.
pub(super) fn available() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    // SAFETY of all of them: the processor has the features; lengths are whole lines, as the callers of kernels check.
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
    {
        kernels.push(Kernel {
            name: "avx512-vnni",
            rows: |query, rows, out| unsafe { vnni_rows(query, rows, out) },
            four: |query, rows| unsafe { vnni_four(query, rows.map(<[u8]>::as_ptr), excess(query)) },
            pair: |a, b| unsafe { vnni_pair(a, b) },
        });
    }
    if is_x86_feature_detected!("avx2") {
        kernels.push(Kernel {
            name: "avx2",
            rows: |query, rows, out| unsafe { avx2_rows(query, rows, out) },
            four: |query, rows| unsafe { avx2_four(query, rows.map(<[u8]>::as_ptr)) },
            pair: |a, b| unsafe { avx2_pair(a, b) },
        });
    }
    kernels
}

/// The VNNI instruction multiplies the stored byte, which is 128 too large, so that 128 times the query's sum is too much.
fn excess(query: &[i8]) -> i32 {
    128 * query.iter().map(|&q| i32::from(q)).sum::<i32>()
}

/// Pointers to four rows of `width` bytes, one behind the other.
///
/// # Safety
/// There are that many bytes at `rows`.
unsafe fn in_line(rows: *const u8, width: usize) -> [*const u8; FOUR] {
    // SAFETY: the caller's.
    unsafe { [rows, rows.add(width), rows.add(2 * width), rows.add(3 * width)] }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn vnni_rows(query: &[i8], rows: &[u8], out: &mut [i32]) {
    let width = query.len();
    let excess = excess(query);
    let (fours, rest) = out.as_chunks_mut::<FOUR>();
    for (group, sums) in fours.iter_mut().enumerate() {
        fetch_ahead(rows.as_ptr().wrapping_add(group * FOUR * width), FOUR * width);
        // SAFETY: rows holds `out.len()` rows of `width` bytes, so four from here on.
        *sums = unsafe { vnni_four(query, in_line(rows.as_ptr().add(group * FOUR * width), width), excess) };
    }
    let done = fours.len() * FOUR;
    for (index, sum) in rest.iter_mut().enumerate() {
        // SAFETY: as above, one row.
        *sum = unsafe { vnni_one(query, rows.as_ptr().add((done + index) * width)) } - excess;
    }
}

/// Four rows at once: the query is loaded once, and four sums hide the instruction's latency.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn vnni_four(query: &[i8], rows: [*const u8; FOUR], excess: i32) -> [i32; FOUR] {
    let mut sums = [_mm512_setzero_si512(); FOUR];
    for at in (0..query.len()).step_by(LINE) {
        // SAFETY: `at + LINE <= query.len()`, and each row is as long.
        unsafe {
            let q = _mm512_loadu_si512(query.as_ptr().add(at).cast());
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = _mm512_dpbusd_epi32(*sum, _mm512_loadu_si512(row.add(at).cast()), q);
            }
        }
    }
    let halves =
        sums.map(|sum| _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum)));
    sum_each(halves).map(|sum| sum - excess)
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

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn vnni_pair(a: &[u8], b: &[u8]) -> i32 {
    let (flip, ones) = (_mm512_set1_epi8(i8::MIN), _mm512_set1_epi8(1));
    let (mut sum, mut excess) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for at in (0..a.len()).step_by(LINE) {
        // SAFETY: `at + LINE` is at most the length of both.
        unsafe {
            let signed = _mm512_xor_si512(_mm512_loadu_si512(b.as_ptr().add(at).cast()), flip);
            sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(a.as_ptr().add(at).cast()), signed);
            excess = _mm512_dpbusd_epi32(excess, ones, signed);
        }
    }
    _mm512_reduce_add_epi32(sum) - 128 * _mm512_reduce_add_epi32(excess)
}

#[target_feature(enable = "avx2")]
unsafe fn avx2_rows(query: &[i8], rows: &[u8], out: &mut [i32]) {
    let width = query.len();
    let (fours, rest) = out.as_chunks_mut::<FOUR>();
    for (group, sums) in fours.iter_mut().enumerate() {
        fetch_ahead(rows.as_ptr().wrapping_add(group * FOUR * width), FOUR * width);
        // SAFETY: rows holds `out.len()` rows of `width` bytes, so four from here on.
        *sums = unsafe { avx2_four(query, in_line(rows.as_ptr().add(group * FOUR * width), width)) };
    }
    let done = fours.len() * FOUR;
    for (index, sum) in rest.iter_mut().enumerate() {
        // SAFETY: as above, one row.
        *sum = unsafe { avx2_one(query, rows.as_ptr().add((done + index) * width)) };
    }
}

/// Bytes between what a scan reads and what it has fetched meanwhile: four streams at once are more than the processor foresees by
/// itself.
const AHEAD: usize = 48 << 10;

/// Asks for bytes that will be read soon, as many as are read meanwhile. They need not be there: a prefetch never fails.
///
/// Into the second cache, which can wait for more lines of memory at a time than the first: with rows out of memory, a scan that
/// fetched into the first took two to three times as long.
#[inline]
fn fetch_ahead(read: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(LINE) {
        // SAFETY: the instruction is part of the architecture, and reads nothing that the program sees.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(read.wrapping_add(AHEAD + at).cast()) };
    }
}

/// Bytes of an AVX2 register.
const HALF_LINE: usize = 32;

/// Four rows at once, as with VNNI.
#[target_feature(enable = "avx2")]
unsafe fn avx2_four(query: &[i8], rows: [*const u8; FOUR]) -> [i32; FOUR] {
    let mut sums = [_mm256_setzero_si256(); FOUR];
    for at in (0..query.len()).step_by(HALF_LINE) {
        // SAFETY: `at + HALF_LINE <= query.len()`, and each row is as long.
        unsafe {
            let q = _mm256_loadu_si256(query.as_ptr().add(at).cast());
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = _mm256_add_epi32(*sum, products(q, stored(row.add(at))));
            }
        }
    }
    sum_each(sums)
}

#[target_feature(enable = "avx2")]
unsafe fn avx2_one(query: &[i8], row: *const u8) -> i32 {
    let mut sum = _mm256_setzero_si256();
    for at in (0..query.len()).step_by(HALF_LINE) {
        // SAFETY: `at + HALF_LINE <= query.len()`, and `row` is as long.
        unsafe {
            let q = _mm256_loadu_si256(query.as_ptr().add(at).cast());
            sum = _mm256_add_epi32(sum, products(q, stored(row.add(at))));
        }
    }
    sum_all(sum)
}

#[target_feature(enable = "avx2")]
unsafe fn avx2_pair(a: &[u8], b: &[u8]) -> i32 {
    let mut sum = _mm256_setzero_si256();
    for at in (0..a.len()).step_by(HALF_LINE) {
        // SAFETY: `at + HALF_LINE` is at most the length of both.
        unsafe {
            let (a, b) = (stored(a.as_ptr().add(at)), stored(b.as_ptr().add(at)));
            sum = _mm256_add_epi32(sum, products(a, b));
        }
    }
    sum_all(sum)
}

/// 32 stored bytes as signed codes: taking 128 away flips the top bit.
#[target_feature(enable = "avx2")]
unsafe fn stored(bytes: *const u8) -> __m256i {
    // SAFETY: the caller points to 32 bytes.
    _mm256_xor_si256(unsafe { _mm256_loadu_si256(bytes.cast()) }, _mm256_set1_epi8(i8::MIN))
}

/// Sums of four products each. The byte instruction takes one factor without its sign, which goes over to the other; as
/// no code is -128, two products are at most 2 * 127 * 127 and the 16-bit sum does not saturate.
#[target_feature(enable = "avx2")]
fn products(a: __m256i, b: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// Adds up each of four registers, transposing on the way.
#[target_feature(enable = "avx2")]
fn sum_each([a, b, c, d]: [__m256i; FOUR]) -> [i32; FOUR] {
    let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let four = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
    let mut out = [0i32; FOUR];
    // SAFETY: `out` has room for the 16 bytes.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), four) };
    out
}

#[target_feature(enable = "avx2")]
fn sum_all(sum: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}
