//! Image files to vectors: end to end, and what bounds it from above and from below.

use std::{ops::ControlFlow, path::PathBuf};

use serde::Serialize;

use super::{
    Gemm, Peer, PeerError, Rate, Spent,
    stopwatch::{Stopwatch, in_parallel, median},
};
use crate::{
    bulk::{BulkError, BulkOptions, embed_files},
    engine::{Engine, EngineError},
};

/// What is measured on what.
pub struct Plan<'a> {
    /// The model, loaded for throughput.
    pub engine: &'a Engine,
    /// Image files, all of which must be readable.
    pub files: &'a [PathBuf],
    /// The parallel path.
    pub bulk: BulkOptions,
    /// Rounds that count; one more warms up.
    pub rounds: usize,
    /// Python doing the same work on the same files.
    pub peer: Option<Peer>,
    /// How fast the machine multiplies matrices, a network to hold against that, and the multiply-accumulates that it does
    /// for one image.
    pub peak: Option<(Gemm, &'a Engine, u64)>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct EmbedBench {
    /// Image files.
    pub images: usize,
    /// Rounds; in each, every measurement is taken once.
    pub rounds: usize,
    /// Images per run of the network.
    pub batch: usize,
    /// Worker threads.
    pub workers: usize,
    /// The rates.
    pub rates: Rates,
    /// Share of the workers' time that the processor spent on us end to end; 1.0 is every core busy.
    pub busy: f64,
    /// What one is worth in the other.
    pub ratios: Ratios,
}

/// Images per second, each the median over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    /// From files to vectors.
    pub end_to_end: Rate,
    /// The network alone, on pixels that are ready, with as many threads.
    pub session: Rate,
    /// From files to pixels alone.
    pub preprocess: Rate,
    /// Python with Pillow and ONNX Runtime, from files to vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python: Option<Rate>,
    /// The network that is held against the machine's peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_session: Option<Rate>,
    /// The peak: 10^9 floating-point operations (half as many multiply-accumulates) per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gemm_gflops: Option<Rate>,
}

/// Quotients of the rates, each the median over the rounds. On the clock; `_cpu` in processor time, which other work on the
/// machine hardly changes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratios {
    /// 1.0 would mean that decoding costs nothing.
    pub end_to_end_over_session: f64,
    /// The same in processor time.
    pub end_to_end_over_session_cpu: f64,
    /// How much faster than Python.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_to_end_over_python: Option<f64>,
    /// The same in processor time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_to_end_over_python_cpu: Option<f64>,
    /// 1.0 would mean that the network is nothing but matrix products at full speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_over_gemm_peak: Option<f64>,
    /// The same in processor time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_over_gemm_peak_cpu: Option<f64>,
}

/// What one round took.
struct Round {
    end_to_end: Spent,
    session: Spent,
    preprocess: Spent,
    python: Option<Spent>,
    peak: Option<Peak>,
}

struct Peak {
    session: Spent,
    gemm: Spent,
}

/// The peak is measured on so many images, as its network may be slow.
const PEAK_IMAGES: usize = 32;

/// Why the measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The network fails or a file cannot be embedded.
    #[error(transparent)]
    Bulk(#[from] BulkError),
    /// Python fails.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

impl From<EngineError> for BenchError {
    fn from(error: EngineError) -> Self {
        Self::Bulk(error.into())
    }
}

/// Measures.
///
/// # Errors
/// [`BenchError`] if the network or Python fails or a file cannot be embedded.
pub fn bench_embed(mut plan: Plan<'_>) -> Result<EmbedBench, BenchError> {
    let workers = plan.bulk.workers.unwrap_or(1).max(1);
    let wanted = plan.rounds.max(1);
    let mut rounds = Vec::new();
    // The first round warms up caches and allocators, and is not counted.
    for number in 0..=wanted {
        let round = plan.round(workers)?;
        if number > 0 {
            rounds.push(round);
        }
    }
    let images = plan.files.len();
    let rate = |of: fn(&Round) -> Spent| Rate::of(images, rounds.iter().map(of));
    let some = |of: fn(&Round) -> Option<Spent>| {
        let spent: Option<Vec<Spent>> = rounds.iter().map(of).collect();
        spent.map(|spent| Rate::of(images, spent.into_iter()))
    };
    let ratio = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of));
    let quotient = |over: Spent, of: Spent, cpu: bool| {
        if cpu { over.cpu.div_duration_f64(of.cpu) } else { over.clock.div_duration_f64(of.clock) }
    };
    let python = |cpu: bool| {
        plan.peer.is_some().then(|| {
            ratio(&|round| round.python.map_or(f64::NAN, |python| quotient(python, round.end_to_end, cpu)))
        })
    };
    let peak = plan.peak.as_ref().map(|(gemm, _, macs)| {
        let products = |spent: Spent| spent.clock.as_secs_f64() / gemm.macs() as f64;
        let cpu_products = |spent: Spent| spent.cpu.as_secs_f64() / gemm.macs() as f64;
        let work = (PEAK_IMAGES as u64 * macs) as f64;
        let of_peak = |round: &Round| {
            round.peak.as_ref().map_or((f64::NAN, f64::NAN), |peak| {
                let clock = work * products(peak.gemm) / peak.session.clock.as_secs_f64();
                let cpu = work * cpu_products(peak.gemm) / peak.session.cpu.as_secs_f64();
                (clock, cpu)
            })
        };
        let spent =
            |of: fn(&Peak) -> Spent| rounds.iter().filter_map(move |round| round.peak.as_ref().map(of));
        let flops = Rate::of(1, spent(|peak| peak.gemm));
        let giga = 2e-9 * gemm.macs() as f64;
        (
            Rate::of(PEAK_IMAGES, spent(|peak| peak.session)),
            Rate { per_second: flops.per_second * giga, per_core_second: flops.per_core_second * giga },
            ratio(&|round| of_peak(round).0),
            ratio(&|round| of_peak(round).1),
        )
    });
    Ok(EmbedBench {
        images,
        rounds: rounds.len(),
        batch: plan.bulk.batch,
        workers,
        rates: Rates {
            end_to_end: rate(|r| r.end_to_end),
            session: rate(|r| r.session),
            preprocess: rate(|r| r.preprocess),
            python: some(|r| r.python),
            peak_session: peak.map(|peak| peak.0),
            gemm_gflops: peak.map(|peak| peak.1),
        },
        busy: ratio(&|r| r.end_to_end.cpu.div_duration_f64(r.end_to_end.clock) / workers as f64),
        ratios: Ratios {
            end_to_end_over_session: ratio(&|r| quotient(r.session, r.end_to_end, false)),
            end_to_end_over_session_cpu: ratio(&|r| quotient(r.session, r.end_to_end, true)),
            end_to_end_over_python: python(false),
            end_to_end_over_python_cpu: python(true),
            session_over_gemm_peak: peak.map(|peak| peak.2),
            session_over_gemm_peak_cpu: peak.map(|peak| peak.3),
        },
    })
}

impl Plan<'_> {
    fn round(&mut self, workers: usize) -> Result<Round, BenchError> {
        let batch = self.bulk.batch;
        Ok(Round {
            session: session_alone(self.engine, self.files.len(), batch, workers)?,
            end_to_end: end_to_end(self.engine, self.files, &self.bulk)?,
            preprocess: preprocess_alone(self.engine, self.files, workers)?,
            python: self.peer.as_mut().map(Peer::run).transpose()?,
            peak: match &mut self.peak {
                Some((gemm, engine, _)) => Some(Peak {
                    gemm: gemm.run()?,
                    session: session_alone(engine, PEAK_IMAGES, batch, workers)?,
                }),
                None => None,
            },
        })
    }
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

fn session_alone(engine: &Engine, images: usize, batch: usize, workers: usize) -> Result<Spent, EngineError> {
    let batch = batch.clamp(1, images.max(1));
    let pixels: Vec<f32> =
        (0..batch * engine.pixels_per_image()).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    in_parallel(images.div_ceil(batch), vec![(); workers], |(), index| {
        let n = batch.min(images - index * batch);
        engine.embed_pixels(&pixels[..n * engine.pixels_per_image()], n).map(drop)
    })
}

fn preprocess_alone(engine: &Engine, files: &[PathBuf], workers: usize) -> Result<Spent, EngineError> {
    let pixels = vec![vec![0.0; engine.pixels_per_image()]; workers];
    in_parallel(files.len(), pixels, |pixels, index| {
        let bytes = fs_err::read(&files[index])
            .map_err(|error| EngineError::Inference { reason: error.to_string() })?;
        engine.preprocess_into(&bytes, pixels)
    })
}
