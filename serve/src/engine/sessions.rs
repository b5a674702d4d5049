//! Opening sessions on the provider that was asked for, or on the one that can be had, and choosing how many.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ort::session::{Session, builder::GraphOptimizationLevel};

use super::{EngineError, Library, Provider, gpu};

/// Sessions that compute the same model, and where they do it.
pub(super) struct Opened {
    pub(super) sessions: Vec<Session>,
    /// Threads of each.
    pub(super) threads: usize,
    /// One on all threads, for a run that has the machine to itself, where the others have one thread each.
    pub(super) alone: Option<Session>,
    pub(super) active: Provider,
    pub(super) reason: String,
    /// Bytes that the model takes on the GPU.
    pub(super) device_bytes: Option<u64>,
}

/// How many sessions share the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// So many.
    Fixed(usize),
    /// For many images: one per thread, unless one on all threads does clearly more per second here.
    Bulk,
    /// For requests that come by themselves: one on all threads, and beside it one per thread for when there are many, unless it does
    /// clearly more per second than those.
    Requests,
}

/// What is to be opened.
pub(super) struct Request<'a> {
    pub(super) library: &'a Library,
    pub(super) model: &'a Path,
    pub(super) provider: Provider,
    pub(super) layout: Layout,
    /// Threads in all.
    pub(super) threads: usize,
}

/// One session on all threads has to be faster by this to be chosen for many images: measurements of a moment on a busy machine are off
/// by as much, and of the two it is the one that wastes time when threads wait for each other.
const CLEARLY: f64 = 1.15;
/// Layouts are measured in turns, so often; the best of each counts.
const ROUNDS: usize = 2;
/// So long does a thread of a session wait awake for its share of the next operator: less than it takes to wake one that sleeps,
/// and long enough for most operators of a convolutional network. Without a limit (ONNX Runtime's own way), threads take the cores
/// away from decoding, from the other sessions and from whatever else runs on the machine (docs/results/server.md).
const SPIN_MICROS: &str = "100";
/// One measurement of a layout ends after this long.
const MEASURE_TIME_MAX: Duration = Duration::from_millis(200);

impl Request<'_> {
    /// Opens sessions on the first provider that works; the CPU comes last, with the reasons why the others did not.
    ///
    /// `run` computes a small batch on a session, to measure layouts with.
    pub(super) fn open(
        &self,
        run: &(impl Fn(&mut Session) -> Result<(), EngineError> + Sync),
    ) -> Result<Opened, EngineError> {
        let mut failures = Vec::new();
        for provider in self.provider.candidates() {
            match self.open_proven(provider, run) {
                Ok(mut opened) => {
                    if self.provider == Provider::Auto {
                        opened.reason = "the fastest provider that this library and machine have".to_owned();
                    }
                    return Ok(opened);
                }
                Err(reason) => {
                    tracing::warn!(%provider, reason, "provider cannot be used");
                    failures.push(format!("{provider} failed: {}", without_paths(&reason)));
                }
            }
        }
        let mut opened = self
            .open_layout(Provider::Cpu, run)
            .map_err(|reason| EngineError::Session { model: self.model.to_path_buf(), reason })?;
        match self.provider {
            Provider::Cpu => {}
            _ if !failures.is_empty() => opened.reason = failures.join("; "),
            _ => opened.reason = "this ONNX Runtime library has no other provider".to_owned(),
        }
        Ok(opened)
    }

    /// Opens sessions on one provider and makes sure that it is what computes.
    fn open_proven(
        &self,
        provider: Provider,
        run: &(impl Fn(&mut Session) -> Result<(), EngineError> + Sync),
    ) -> Result<Opened, String> {
        if !provider.in_library() {
            return Err(format!(
                "this ONNX Runtime library has no such provider; `cargo xtask setup --provider {provider}` fetches one that has"
            ));
        }
        if !provider.is_gpu() {
            return self.open_layout(provider, run);
        }
        gpu::preload(self.library.path());
        let memory = gpu::DeviceMemory::open()?;
        let before = memory.free()?;
        let mut opened = self.open_layout(provider, run)?;
        for session in &mut opened.sessions {
            run(session).map_err(|error| error.to_string())?;
        }
        let taken = before.saturating_sub(memory.free()?);
        // A session can be opened on a GPU and compute elsewhere; weights that are not there give it away.
        let weights = fs_err::metadata(self.model).map_err(|error| error.to_string())?.len();
        if taken < weights / 2 {
            return Err(format!(
                "the model takes {taken} bytes of the GPU's memory, its weights {weights}: it is not there"
            ));
        }
        opened.device_bytes = Some(taken);
        Ok(opened)
    }

    fn open_layout(
        &self,
        provider: Provider,
        run: &(impl Fn(&mut Session) -> Result<(), EngineError> + Sync),
    ) -> Result<Opened, String> {
        let fixed =
            |count: usize| self.open_on(provider, count).map_err(|error| one_line(&error.to_string()));
        match self.layout {
            Layout::Fixed(count) => fixed(count.max(1)),
            // A GPU has its own ways of sharing work out, and one thread leaves nothing to choose.
            Layout::Bulk | Layout::Requests if provider.is_gpu() || self.threads == 1 => fixed(1),
            Layout::Bulk | Layout::Requests => {
                let (mut per_thread, mut single) = (fixed(self.threads)?, fixed(1)?);
                let (mut many, mut one) = (0f64, 0f64);
                for _ in 0..ROUNDS {
                    let rate = |opened: &mut Opened| measure(opened, run).map_err(|error| error.to_string());
                    many = many.max(rate(&mut per_thread)?);
                    one = one.max(rate(&mut single)?);
                }
                tracing::debug!(many, one, "batches per second of one session per thread, and of one on all");
                if many * CLEARLY < one {
                    return Ok(single);
                }
                per_thread.alone = single.sessions.pop().filter(|_| self.layout == Layout::Requests);
                Ok(per_thread)
            }
        }
    }

    fn open_on(&self, provider: Provider, count: usize) -> Result<Opened, ort::Error> {
        let threads = (self.threads / count).max(1);
        let sessions = (0..count)
            .map(|_| {
                let mut builder = Session::builder(self.library.environment())?
                    .with_optimization_level(provider.optimization())?
                    .with_intra_threads(threads)?
                    .with_config_entry("session.intra_op.spin_duration_us", SPIN_MICROS)?
                    .with_intra_op_spinning(self.library.limits_spinning())?;
                if let Some(dispatch) = provider.dispatch(threads) {
                    builder = builder.with_execution_providers([dispatch])?;
                }
                builder.commit_from_file(self.model)
            })
            .collect::<Result<_, ort::Error>>()?;
        Ok(Opened {
            sessions,
            threads,
            alone: None,
            active: provider,
            reason: "as requested".to_owned(),
            device_bytes: None,
        })
    }
}

impl Provider {
    /// OpenVINO does its own; what ONNX Runtime has fused before, it would not know.
    fn optimization(self) -> GraphOptimizationLevel {
        match self {
            Self::Openvino => GraphOptimizationLevel::Disable,
            _ => GraphOptimizationLevel::All,
        }
    }
}

/// Runs per second of all sessions at the same time, after one to warm up.
fn measure(
    opened: &mut Opened,
    run: &(impl Fn(&mut Session) -> Result<(), EngineError> + Sync),
) -> Result<f64, EngineError> {
    for session in &mut opened.sessions {
        run(session)?;
    }
    let start = Instant::now();
    let runs = thread::scope(|scope| {
        let threads: Vec<_> = opened
            .sessions
            .iter_mut()
            .map(|session| {
                scope.spawn(move || {
                    let mut runs = 0u32;
                    while runs == 0 || (start.elapsed() < MEASURE_TIME_MAX && runs < 8) {
                        run(session)?;
                        runs += 1;
                    }
                    Ok::<_, EngineError>(runs)
                })
            })
            .collect();
        threads.into_iter().try_fold(0, |sum, thread| match thread.join() {
            Ok(runs) => Ok::<_, EngineError>(sum + runs?),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    Ok(f64::from(runs) / start.elapsed().as_secs_f64())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A runtime's message on one line, with file paths cut down to file names: it is shown to whoever asks the server.
fn without_paths(text: &str) -> String {
    let name = |word: &str| match word.rsplit_once('/') {
        Some((_, name)) if !word.contains("://") => name.to_owned(),
        _ => word.to_owned(),
    };
    text.split_whitespace().map(name).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_their_paths_and_keep_their_names() {
        let text = "Failed to load library /opt/runtime/libonnxruntime_providers_cuda.so with error:\n libcublas.so.13: \
                    cannot open (see https://example.org/cuda)";
        assert_eq!(
            without_paths(text),
            "Failed to load library libonnxruntime_providers_cuda.so with error: libcublas.so.13: cannot open (see \
             https://example.org/cuda)"
        );
    }
}
