//! Memory for many rows, in large pages where the system has them.
//!
//! Searches jump between rows. With pages of 4 KiB nearly every jump is to a page whose address the processor has to look up in
//! memory first.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use crate::kernels::LINE;

/// Size of a large page.
const LARGE: usize = 2 << 20;

/// A list of fixed capacity that begins at a cache line. It takes no memory that is not filled yet, but for the last page.
pub(crate) struct Block<T: Copy> {
    start: NonNull<T>,
    len: usize,
    capacity: usize,
}

// SAFETY: it owns its values, as a `Vec` does.
unsafe impl<T: Copy + Send> Send for Block<T> {}
// SAFETY: as above.
unsafe impl<T: Copy + Sync> Sync for Block<T> {}

impl<T: Copy> Block<T> {
    /// An empty list with room for `capacity` values, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity > 0 && size_of::<T>() > 0);
        let layout = Self::layout(capacity);
        // SAFETY: the layout is of more than no bytes.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        prefer_large_pages(start, layout);
        Self { start: start.cast(), len: 0, capacity }
    }

    /// A full list of this value.
    pub(crate) fn filled(value: T, len: usize) -> Self {
        let mut block = Self::new(len.max(1));
        for at in 0..len {
            // SAFETY: there is room for `len` values.
            unsafe { block.start.add(at).write(value) };
        }
        block.len = len;
        block
    }

    fn layout(capacity: usize) -> Layout {
        let bytes = capacity.checked_mul(size_of::<T>()).expect("rows of a block fit in memory");
        let align = if bytes >= LARGE { LARGE } else { LINE.max(align_of::<T>()) };
        Layout::from_size_align(bytes, align).expect("rows of a block fit in memory")
    }

    /// Appends values.
    ///
    /// # Panics
    /// If there is no room for them.
    pub(crate) fn extend(&mut self, values: &[T]) {
        assert!(values.len() <= self.capacity - self.len);
        // SAFETY: there is room, as was checked, and nobody else has access to it.
        unsafe {
            self.start.add(self.len).copy_from_nonoverlapping(NonNull::from_ref(values).cast(), values.len());
        }
        self.len += values.len();
    }
}

#[cfg(target_os = "linux")]
fn prefer_large_pages(start: NonNull<u8>, layout: Layout) {
    if layout.align() >= LARGE {
        // SAFETY: the bytes were just allocated; this only says how. If the system does not want to, it is slower, that is all.
        let _ = unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn prefer_large_pages(_: NonNull<u8>, _: Layout) {}

impl<T: Copy> Deref for Block<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` values have been written, and are borrowed with the block.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for Block<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the first `len` values have been written, and are borrowed with the block.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Copy + PartialEq> PartialEq for Block<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for Block<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}

impl<T: Copy> Clone for Block<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.capacity);
        copy.extend(self);
        copy
    }
}

impl<T: Copy> Drop for Block<T> {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and its values need no dropping.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.capacity)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_was_put_in() {
        for capacity in [8, LARGE] {
            let mut block = Block::<f32>::new(capacity);
            block.extend(&[1.0, 2.0]);
            let mut copy = block.clone();
            copy.extend(&[3.0]);
            assert_eq!((&*block, &*copy), (&[1.0, 2.0][..], &[1.0, 2.0, 3.0][..]));
            assert!(block.as_ptr().addr().is_multiple_of(LINE));
            let full = Block::filled(7u32, capacity);
            assert!(full.len() == capacity && full.iter().all(|&value| value == 7));
        }
    }

    #[test]
    #[should_panic(expected = "values.len()")]
    fn a_block_does_not_grow() {
        Block::<u8>::new(2).extend(&[1, 2, 3]);
    }
}
