//! Telling the processor what will be read soon.

use super::LINE;

/// Asks for the cache lines of a slice, without waiting for them. Changes nothing that a program could see.
///
/// Into the second cache: it can wait for more lines of memory at a time than the first, which a walk has waiting nearly always.
#[inline]
pub(crate) fn prefetch<T>(slice: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let start = slice.as_ptr().cast::<i8>();
        for at in (0..size_of_val(slice)).step_by(LINE) {
            // SAFETY: the address is within the slice, and a prefetch reads nothing that the program sees.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start.add(at)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, LINE);
}
