//! The parallel path from files on disk to vectors.
//!
//! Each worker does all of the work for its own batch: read, decode, resize, normalise into the batch tensor, run the
//! network. With one single-threaded session per worker ([`crate::engine::EngineOptions::for_throughput`]) no worker
//! waits for another one, no pixels are handed between threads, and memory is one batch per worker, however many files
//! there are. With fewer sessions than workers (a GPU), a worker decodes its batch while another one's is computed.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use dfml_models::DecodeError;
use sha2::{Digest, Sha256};

use crate::engine::{Engine, EngineError, PROCESSOR_BATCH};

/// How the bulk path is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkOptions {
    /// Images per run of the network.
    pub batch: usize,
    /// Worker threads; `None` means one per core.
    pub workers: Option<usize>,
    /// Also compute each file's SHA-256.
    pub digest: bool,
}

impl Default for BulkOptions {
    fn default() -> Self {
        Self { batch: PROCESSOR_BATCH, workers: None, digest: false }
    }
}

impl BulkOptions {
    /// What suits the provider that computes, on so many worker threads.
    pub fn of(engine: &Engine, workers: usize) -> Self {
        Self { batch: engine.batch(), workers: Some(workers), digest: false }
    }
}

/// One embedded file.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The unit vector.
    pub vector: Vec<f32>,
    /// SHA-256 of the file's bytes in hex, if [`BulkOptions::digest`] asks for it.
    pub sha256: Option<String>,
}

/// One file that could not be embedded.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct ItemError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub kind: ItemErrorKind,
}

/// Why a file could not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum ItemErrorKind {
    /// It cannot be read.
    #[error("{0}")]
    Read(io::Error),
    /// It is no image that can be decoded within the limits.
    #[error("{0}")]
    Decode(DecodeError),
}

/// The run as a whole failed, not a single file.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// The network could not be computed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file cannot be embedded, where every file has to be.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// The system refused a thread.
    #[error("cannot start a worker thread: {0}")]
    Thread(io::Error),
}

/// One file's result: its position in the caller's list, and its vector or why there is none.
type Outcome = (usize, Result<Embedding, ItemError>);
/// What reading one file gives: its digest if asked for, or why it cannot be embedded.
type Loaded = Result<Option<String>, ItemErrorKind>;
/// What a worker hands over at a time.
type Message = Result<Vec<Outcome>, EngineError>;

/// Embeds `paths` and hands each result to `on`, with the position of its path, in no particular order.
///
/// `on` runs on the calling thread; when it returns [`ControlFlow::Break`], no further batch is started and the
/// results that are still under way are dropped. A file that cannot be embedded is handed over as an error, and the
/// run goes on.
///
/// # Errors
/// [`BulkError`] if the network itself fails, which would fail every other file too.
pub fn embed_files<P: AsRef<Path> + Sync>(
    engine: &Engine,
    paths: &[P],
    options: &BulkOptions,
    mut on: impl FnMut(usize, Result<Embedding, ItemError>) -> ControlFlow<()>,
) -> Result<(), BulkError> {
    let workers = options.workers.unwrap_or_else(cores).clamp(1, paths.len().max(1));
    // Small enough batches that the last ones end together, where there are few files.
    let batch = options.batch.clamp(1, paths.len().div_ceil(workers).max(1));
    let work = Work {
        engine,
        paths,
        batch,
        digest: options.digest,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    let (sender, results) = sync_channel::<Message>(2 * workers);
    thread::scope(|scope| {
        for index in 0..workers {
            let (work, sender) = (&work, sender.clone());
            thread::Builder::new()
                .name(format!("bulk-{index}"))
                .spawn_scoped(scope, move || work.run(&sender))
                .map_err(|error| {
                    work.stop.store(true, Ordering::Relaxed);
                    BulkError::Thread(error)
                })?;
        }
        // The workers hold the other ends: the loop below ends when the last of them is done.
        drop(sender);
        let outcome = consume(&results, &mut on);
        work.stop.store(true, Ordering::Relaxed);
        // Lets workers that wait with a result go on, fail to send, and end.
        drop(results);
        outcome
    })
}

fn consume(
    results: &std::sync::mpsc::Receiver<Message>,
    on: &mut impl FnMut(usize, Result<Embedding, ItemError>) -> ControlFlow<()>,
) -> Result<(), BulkError> {
    for message in results {
        for (position, result) in message? {
            if on(position, result).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

struct Work<'a, P> {
    engine: &'a Engine,
    paths: &'a [P],
    batch: usize,
    digest: bool,
    next: AtomicUsize,
    stop: AtomicBool,
}

impl<P: AsRef<Path>> Work<'_, P> {
    fn run(&self, results: &SyncSender<Message>) {
        let mut pixels = vec![0.0; self.batch * self.engine.pixels_per_image()];
        while !self.stop.load(Ordering::Relaxed) {
            let start = self.next.fetch_add(self.batch, Ordering::Relaxed);
            if start >= self.paths.len() {
                return;
            }
            let end = self.paths.len().min(start + self.batch);
            let message = self.embed_range(start, end, &mut pixels);
            let failed = message.is_err();
            // A send fails only when the consumer has stopped listening.
            if results.send(message).is_err() || failed {
                return;
            }
        }
    }

    fn embed_range(&self, start: usize, end: usize, pixels: &mut [f32]) -> Message {
        let per_image = self.engine.pixels_per_image();
        let mut outcomes = Vec::with_capacity(end - start);
        let mut decoded = Vec::with_capacity(end - start);
        for position in start..end {
            let slot = &mut pixels[decoded.len() * per_image..][..per_image];
            let path = self.paths[position].as_ref();
            match self.load(path, slot)? {
                Ok(sha256) => decoded.push((position, sha256)),
                Err(kind) => outcomes.push((position, Err(ItemError { path: path.to_path_buf(), kind }))),
            }
        }
        let vectors = self.engine.embed_pixels(&pixels[..decoded.len() * per_image], decoded.len())?;
        let embedded = decoded.into_iter().zip(vectors);
        outcomes.extend(
            embedded.map(|((position, sha256), vector)| (position, Ok(Embedding { vector, sha256 }))),
        );
        Ok(outcomes)
    }

    /// Reads and preprocesses one file; the outer error is the engine's, the inner one the file's.
    fn load(&self, path: &Path, pixels: &mut [f32]) -> Result<Loaded, EngineError> {
        let bytes = match fs_err::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(ItemErrorKind::Read(bare(error)))),
        };
        match self.engine.preprocess_into(&bytes, pixels) {
            Ok(()) => Ok(Ok(self.digest.then(|| hex::encode(Sha256::digest(&bytes))))),
            Err(EngineError::Decode(error)) => Ok(Err(ItemErrorKind::Decode(error))),
            Err(error) => Err(error),
        }
    }
}

/// The error without fs_err's own mention of the path, which [`ItemError`] already names.
fn bare(error: io::Error) -> io::Error {
    error.raw_os_error().map_or(error, io::Error::from_raw_os_error)
}
