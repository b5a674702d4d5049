//! How fast images become vectors here, and what limits it.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use cpu_time::ProcessTime;
use serde::Serialize;

use super::{BulkError, BulkOptions, embed_files};
use crate::engine::{Engine, EngineError};

/// A rate, the median over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Images per second on the clock.
    pub per_second: f64,
    /// Images per second of processor time, all threads added up. Other work on the machine hardly changes it.
    pub per_core_second: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct EmbedBench {
    /// Image files.
    pub images: usize,
    /// Rounds; in each, every measurement is taken once, so that a change of the machine's load hits them all.
    pub rounds: usize,
    /// Images per run of the network.
    pub batch: usize,
    /// From files to vectors.
    pub end_to_end: Rate,
    /// The network alone, on pixels that are ready, with as many threads.
    pub session: Rate,
    /// From files to pixels alone.
    pub preprocess: Rate,
    /// Share of the workers' time that the processor spent on us end to end; 1.0 is every core busy.
    pub busy: f64,
    /// What one is worth in the other.
    pub ratios: Ratios,
}

/// Quotients of the rates, each the median over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratios {
    /// 1.0 would mean that decoding costs nothing.
    pub end_to_end_over_session: f64,
    /// The same in processor time, which other work on the machine hardly changes.
    pub end_to_end_over_session_cpu: f64,
}

/// Measures `engine` on `files`, all of which must be readable images.
///
/// # Errors
/// [`BulkError`] if the network fails or a file cannot be embedded.
pub fn bench_embed(
    engine: &Engine,
    files: &[PathBuf],
    options: &BulkOptions,
    rounds: usize,
) -> Result<EmbedBench, BulkError> {
    let workers = options.workers.unwrap_or(1).max(1);
    let mut samples = Vec::new();
    // The first round warms up caches and allocators, and is not counted.
    for round in 0..=rounds.max(1) {
        let sample = Sample {
            end_to_end: end_to_end(engine, files, options)?,
            session: session_alone(engine, files.len(), options.batch, workers)?,
            preprocess: preprocess_alone(engine, files, workers)?,
        };
        if round > 0 {
            samples.push(sample);
        }
    }
    let over = |of: &dyn Fn(&Sample) -> f64| median(samples.iter().map(of).collect());
    let rate = |of: &dyn Fn(&Sample) -> Spent| Rate {
        per_second: over(&|sample| files.len() as f64 / of(sample).clock.as_secs_f64().max(1e-9)),
        per_core_second: over(&|sample| files.len() as f64 / of(sample).cpu.as_secs_f64().max(1e-9)),
    };
    Ok(EmbedBench {
        images: files.len(),
        rounds: samples.len(),
        batch: options.batch,
        end_to_end: rate(&|s| s.end_to_end),
        session: rate(&|s| s.session),
        preprocess: rate(&|s| s.preprocess),
        busy: over(&|s| s.end_to_end.cpu.div_duration_f64(s.end_to_end.clock) / workers as f64),
        ratios: Ratios {
            end_to_end_over_session: over(&|s| s.session.clock.div_duration_f64(s.end_to_end.clock)),
            end_to_end_over_session_cpu: over(&|s| s.session.cpu.div_duration_f64(s.end_to_end.cpu)),
        },
    })
}

/// What one round took.
struct Sample {
    end_to_end: Spent,
    session: Spent,
    preprocess: Spent,
}

/// Time on the clock, and processor time of all threads.
#[derive(Clone, Copy)]
struct Spent {
    clock: Duration,
    cpu: Duration,
}

struct Stopwatch(Instant, ProcessTime);

impl Stopwatch {
    fn start() -> Self {
        Self(Instant::now(), ProcessTime::now())
    }

    fn spent(&self) -> Spent {
        Spent { clock: self.0.elapsed(), cpu: self.1.elapsed() }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn end_to_end(engine: &Engine, files: &[PathBuf], options: &BulkOptions) -> Result<Spent, BulkError> {
    let watch = Stopwatch::start();
    let mut failed = None;
    embed_files(engine, files, options, |_, result| match result {
        Ok(_) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match failed {
        Some(error) => Err(BulkError::Item(error)),
        None => Ok(watch.spent()),
    }
}

fn session_alone(engine: &Engine, images: usize, batch: usize, workers: usize) -> Result<Spent, BulkError> {
    let batch = batch.clamp(1, images.max(1));
    let pixels: Vec<f32> =
        (0..batch * engine.pixels_per_image()).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    in_parallel(images.div_ceil(batch), workers, |index| {
        let n = batch.min(images - index * batch);
        engine.embed_pixels(&pixels[..n * engine.pixels_per_image()], n).map(drop)
    })
}

fn preprocess_alone(engine: &Engine, files: &[PathBuf], workers: usize) -> Result<Spent, BulkError> {
    in_parallel(files.len(), workers, |index| {
        thread_local! { static PIXELS: std::cell::RefCell<Vec<f32>> = const { std::cell::RefCell::new(Vec::new()) } }
        PIXELS.with_borrow_mut(|pixels| {
            pixels.resize(engine.pixels_per_image(), 0.0);
            let bytes = fs_err::read(&files[index])
                .map_err(|error| EngineError::Inference { reason: error.to_string() })?;
            engine.preprocess_into(&bytes, pixels)
        })
    })
}

/// Runs `job` for 0..`jobs` on `workers` threads and returns what it took.
fn in_parallel(
    jobs: usize,
    workers: usize,
    job: impl Fn(usize) -> Result<(), EngineError> + Sync,
) -> Result<Spent, BulkError> {
    let next = AtomicUsize::new(0);
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        let work = || {
            loop {
                match next.fetch_add(1, Ordering::Relaxed) {
                    index if index < jobs => job(index)?,
                    _ => return Ok::<(), EngineError>(()),
                }
            }
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
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
        in_parallel(100, 3, |index| {
            seen.fetch_add(index, Ordering::SeqCst);
            Ok(())
        })
        .expect("no job fails");
        assert_eq!(seen.into_inner(), 4950);
        let outcome = in_parallel(5, 2, |index| if index == 3 { Err(EngineError::Stopped) } else { Ok(()) });
        assert!(matches!(outcome, Err(BulkError::Engine(EngineError::Stopped))));
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
