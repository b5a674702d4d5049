//! How fast images become vectors here, and what limits it.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{BulkError, BulkOptions, embed_files};
use crate::engine::{Engine, EngineError};

/// What was measured. Rates are images per second; each is the median over the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct EmbedBench {
    /// Image files.
    pub images: usize,
    /// Rounds; in each, every measurement is taken once, so that a change of the machine's load hits them all.
    pub rounds: usize,
    /// Images per run of the network.
    pub batch: usize,
    /// From files to vectors.
    pub end_to_end: f64,
    /// The network alone, on pixels that are ready, with as many threads.
    pub session: f64,
    /// From files to pixels alone.
    pub preprocess: f64,
    /// What one is worth in the other.
    pub ratios: Ratios,
}

/// Quotients of the rates, each the median over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratios {
    /// 1.0 would mean that decoding costs nothing.
    pub end_to_end_over_session: f64,
    /// What the sum of the two parts' times allows: below it, time is lost between the parts.
    pub end_to_end_over_parts: f64,
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
            end_to_end: rate(files.len(), end_to_end(engine, files, options)?),
            session: rate(files.len(), session_alone(engine, files.len(), options.batch, workers)?),
            preprocess: rate(files.len(), preprocess_alone(engine, files, workers)?),
        };
        if round > 0 {
            samples.push(sample);
        }
    }
    let over = |of: &dyn Fn(&Sample) -> f64| median(samples.iter().map(of).collect());
    Ok(EmbedBench {
        images: files.len(),
        rounds: samples.len(),
        batch: options.batch,
        end_to_end: over(&|s| s.end_to_end),
        session: over(&|s| s.session),
        preprocess: over(&|s| s.preprocess),
        ratios: Ratios {
            end_to_end_over_session: over(&|s| s.end_to_end / s.session),
            end_to_end_over_parts: over(&|s| s.end_to_end * (1.0 / s.session + 1.0 / s.preprocess)),
        },
    })
}

/// The rates of one round.
struct Sample {
    end_to_end: f64,
    session: f64,
    preprocess: f64,
}

fn rate(images: usize, time: Duration) -> f64 {
    images as f64 / time.as_secs_f64().max(1e-9)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn end_to_end(engine: &Engine, files: &[PathBuf], options: &BulkOptions) -> Result<Duration, BulkError> {
    let start = Instant::now();
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
        None => Ok(start.elapsed()),
    }
}

fn session_alone(engine: &Engine, images: usize, batch: usize, workers: usize) -> Result<Duration, BulkError> {
    let batch = batch.clamp(1, images.max(1));
    let pixels: Vec<f32> = (0..batch * engine.pixels_per_image()).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    in_parallel(images.div_ceil(batch), workers, |index| {
        let n = batch.min(images - index * batch);
        engine.embed_pixels(&pixels[..n * engine.pixels_per_image()], n).map(drop)
    })
}

fn preprocess_alone(engine: &Engine, files: &[PathBuf], workers: usize) -> Result<Duration, BulkError> {
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

/// Runs `job` for 0..`jobs` on `workers` threads and returns the time it took.
fn in_parallel(
    jobs: usize,
    workers: usize,
    job: impl Fn(usize) -> Result<(), EngineError> + Sync,
) -> Result<Duration, BulkError> {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
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
    Ok(start.elapsed())
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
