//! Time on the clock and of the processor.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use cpu_time::ProcessTime;
use serde::Serialize;

/// What something took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// On the clock.
    pub clock: Duration,
    /// Processor time of all threads.
    pub cpu: Duration,
}

/// A rate, the median over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Per second on the clock.
    pub per_second: f64,
    /// Per second of processor time, all threads added up. Other work on the machine hardly changes it.
    pub per_core_second: f64,
}

impl Rate {
    /// Of `count` things in each round.
    pub(super) fn of(count: usize, rounds: impl Iterator<Item = Spent> + Clone) -> Self {
        let per = |spent: Duration| count as f64 / spent.as_secs_f64().max(1e-9);
        Self {
            per_second: median(rounds.clone().map(|round| per(round.clock))),
            per_core_second: median(rounds.map(|round| per(round.cpu))),
        }
    }
}

pub(super) struct Stopwatch(Instant, ProcessTime);

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(Instant::now(), ProcessTime::now())
    }

    pub(super) fn spent(&self) -> Spent {
        Spent { clock: self.0.elapsed(), cpu: self.1.elapsed() }
    }
}

/// The middle value; of an even number the upper one.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs `job` for 0..`jobs` on `workers` threads, each with a `state` of its own, and returns what it took.
pub(super) fn in_parallel<S: Send, E: Send>(
    jobs: usize,
    workers: Vec<S>,
    job: impl Fn(&mut S, usize) -> Result<(), E> + Sync,
) -> Result<Spent, E> {
    let next = AtomicUsize::new(0);
    let work = |mut state: S| {
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                index if index < jobs => job(&mut state, index)?,
                _ => return Ok::<(), E>(()),
            }
        }
    };
    let work = &work;
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        let threads: Vec<_> = workers.into_iter().map(|state| scope.spawn(move || work(state))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    Ok(watch.spent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_run_once_and_an_error_ends_the_run() {
        let seen = AtomicUsize::new(0);
        let count = |_: &mut (), index| {
            seen.fetch_add(index, Ordering::SeqCst);
            Ok::<(), ()>(())
        };
        in_parallel(100, vec![(); 3], count).expect("no job fails");
        assert_eq!(seen.into_inner(), 4950);
        let outcome = in_parallel(5, vec![(); 2], |(), index| if index == 3 { Err("three") } else { Ok(()) });
        assert_eq!(outcome, Err("three"));
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert!(median(std::iter::empty()).is_nan());
    }
}
