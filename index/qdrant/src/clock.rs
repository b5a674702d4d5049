//! When something was written.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Microseconds since 1970 that only ever grow within a process.
#[derive(Default)]
pub(crate) struct Clock(AtomicI64);

impl Clock {
    /// The first of `count` moments that are nobody else's in this process.
    pub(crate) fn take(&self, count: usize) -> i64 {
        let now = now_micros();
        let count = i64::try_from(count).unwrap_or(i64::MAX / 2);
        let next = |last: i64| last.max(now).saturating_add(count);
        let last = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last)));
        // The update always gives a value; either way this is the moment before it.
        last.unwrap_or_else(|last| last).max(now)
    }
}

/// Microseconds since 1970.
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    i64::try_from(since).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_moment_is_given_twice() {
        let clock = Clock::default();
        let mut before = 0;
        for _ in 0..1000 {
            let first = clock.take(10);
            assert!(first > before + 9 || before == 0);
            before = first;
        }
    }
}
