//! A fixed set of sessions that threads borrow one at a time.

use std::{
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, MutexGuard},
};

/// Items that are lent out one at a time and come back when the loan is dropped.
pub(super) struct Pool<T> {
    idle: Mutex<Vec<T>>,
    returned: Condvar,
    size: usize,
}

impl<T> Pool<T> {
    pub(super) fn new(items: Vec<T>) -> Self {
        Self { size: items.len(), idle: Mutex::new(items), returned: Condvar::new() }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// All items; nobody else has one, as this is the only handle.
    pub(super) fn all(&mut self) -> &mut [T] {
        self.idle.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Borrows an item, waiting until one is free.
    pub(super) fn take(&self) -> Loan<'_, T> {
        let mut idle = self.lock();
        loop {
            if let Some(item) = idle.pop() {
                return Loan { pool: self, item: Some(item) };
            }
            idle = self.returned.wait(idle).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    // A panic while the lock is held cannot leave the vector half-changed: it is only pushed to and popped from.
    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A borrowed item.
pub(super) struct Loan<'a, T> {
    pool: &'a Pool<T>,
    item: Option<T>,
}

impl<T> Deref for Loan<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.item.as_ref().expect("a loan holds its item until it is dropped")
    }
}

impl<T> DerefMut for Loan<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.item.as_mut().expect("a loan holds its item until it is dropped")
    }
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.pool.lock().push(item);
            self.pool.returned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn never_lends_more_items_than_it_has() {
        let pool = Pool::new(vec![0u32, 1, 2]);
        let (out, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let mut item = pool.take();
                        most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        *item += 1;
                        out.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        let total: u32 = pool.lock().iter().sum();
        assert_eq!(total, 8 * 200 + 3, "every item came back");
    }
}
