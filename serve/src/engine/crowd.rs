//! Whether a run has the machine to itself.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// For so long after two runs at the same time there may be more of them any moment, even if there is only one just now.
const CALM: Duration = Duration::from_millis(100);

/// Counts the runs under way, and remembers when there was last more than one.
pub(super) struct Crowd {
    running: AtomicUsize,
    since: Instant,
    /// When it will be calm again, in milliseconds after `since`.
    calm_at: AtomicU64,
}

/// A run under way, until it is dropped.
pub(super) struct Turn<'a> {
    running: &'a AtomicUsize,
    /// Whether no other is under way, nor was a moment ago.
    pub(super) alone: bool,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self { running: AtomicUsize::new(0), since: Instant::now(), calm_at: AtomicU64::new(0) }
    }

    pub(super) fn enter(&self) -> Turn<'_> {
        let now = self.since.elapsed();
        let crowded = self.running.fetch_add(1, Ordering::Relaxed) > 0;
        if crowded {
            self.calm_at.store(millis(now + CALM), Ordering::Relaxed);
        }
        let alone = !crowded && millis(now) >= self.calm_at.load(Ordering::Relaxed);
        Turn { running: &self.running, alone }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_alone_unless_there_is_or_just_was_another() {
        let crowd = Crowd::new();
        for _ in 0..3 {
            assert!(crowd.enter().alone, "one after the other");
        }
        let first = crowd.enter();
        assert!(first.alone && !crowd.enter().alone, "another is under way");
        drop(first);
        assert!(!crowd.enter().alone, "another was just under way");
        std::thread::sleep(CALM + Duration::from_millis(5));
        assert!(crowd.enter().alone, "it is calm again");
    }
}
