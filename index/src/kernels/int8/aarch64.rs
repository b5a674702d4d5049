//! NEON, which every 64-bit ARM processor has.

use std::arch::aarch64::*;

use super::{FOUR, Kernel};

/// The kernels that this processor can run.
pub(super) fn available() -> Vec<Kernel> {
    // SAFETY of all three: NEON is part of the architecture; lengths are whole lines, as the callers of kernels check.
    vec![Kernel {
        name: "neon",
        rows: |query, rows, out| unsafe { neon_rows(query, rows, out) },
        four: |query, rows| unsafe { neon_four(query, rows) },
        pair: |a, b| unsafe { neon_pair(a, b) },
    }]
}

#[target_feature(enable = "neon")]
unsafe fn neon_rows(query: &[i8], rows: &[u8], out: &mut [i32]) {
    for (sum, row) in out.iter_mut().zip(rows.chunks_exact(query.len())) {
        // SAFETY: the row is as long as the query, which is whole lines.
        *sum = unsafe { neon_one(query, row) };
    }
}

#[target_feature(enable = "neon")]
unsafe fn neon_four(query: &[i8], rows: [&[u8]; FOUR]) -> [i32; FOUR] {
    // SAFETY: each row is as long as the query, which is whole lines.
    rows.map(|row| unsafe { neon_one(query, row) })
}

#[target_feature(enable = "neon")]
unsafe fn neon_one(query: &[i8], row: &[u8]) -> i32 {
    let mut sums = vdupq_n_s32(0);
    for at in (0..query.len()).step_by(16) {
        // SAFETY: `at + 16` is at most the length of both.
        unsafe { sums = add_products(sums, vld1q_s8(query.as_ptr().add(at)), signed(row.as_ptr().add(at))) };
    }
    vaddvq_s32(sums)
}

#[target_feature(enable = "neon")]
unsafe fn neon_pair(a: &[u8], b: &[u8]) -> i32 {
    let mut sums = vdupq_n_s32(0);
    for at in (0..a.len()).step_by(16) {
        // SAFETY: `at + 16` is at most the length of both.
        unsafe { sums = add_products(sums, signed(a.as_ptr().add(at)), signed(b.as_ptr().add(at))) };
    }
    vaddvq_s32(sums)
}

/// 16 stored bytes as signed codes: taking 128 away flips the top bit.
#[target_feature(enable = "neon")]
unsafe fn signed(bytes: *const u8) -> int8x16_t {
    // SAFETY: the caller points to 16 bytes.
    vreinterpretq_s8_u8(veorq_u8(unsafe { vld1q_u8(bytes) }, vdupq_n_u8(0x80)))
}

/// Adds 16 products. -128 * -128 is 2^14, so that a product fits in 16 bits.
#[target_feature(enable = "neon")]
fn add_products(sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    vpadalq_s16(vpadalq_s16(sums, low), vmull_high_s8(a, b))
}
