//! Other libraries, each in a Python process that is kept running: `tests/peers/index_peer.py`.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{ours::Pass, report::Contender};

/// The script, so that the program needs no file beside it.
const SCRIPT: &str = include_str!("../../../tests/peers/index_peer.py");
/// Libraries that can be compared with.
pub const PEERS: [&str; 5] = ["hnswlib", "faiss", "faiss-flat", "usearch", "usearch-i8"];

/// A running peer. Dropping it ends it.
pub struct Peer {
    name: String,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

/// A peer could not be started or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It could not be started, or spoken with.
    #[error("{}: {source}", python.display())]
    Io {
        /// The interpreter.
        python: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It reports an error.
    #[error(
        "{name}: {reason} (`cargo xtask setup --with peers` installs the libraries; name its bin/python with --python)"
    )]
    Failed {
        /// The peer.
        name: String,
        /// What it said.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Answer {
    error: Option<String>,
    seconds: Option<f64>,
    cpu_seconds: Option<f64>,
    load_seconds: Option<f64>,
    file_bytes: Option<u64>,
}

impl Peer {
    /// Starts a peer of [`PEERS`].
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn start(python: &Path, name: &str) -> Result<Self, PeerError> {
        let failed = |source| PeerError::Io { python: python.to_path_buf(), source };
        let folder = tempfile::tempdir().map_err(failed)?;
        let script = folder.path().join("index_peer.py");
        std::fs::write(&script, SCRIPT).map_err(failed)?;
        let mut command = Command::new(python);
        command.arg(&script).arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
        // One thread each; and the libraries choose their own kernels.
        command.env("OMP_NUM_THREADS", "1").env("OPENBLAS_NUM_THREADS", "1").env_remove("OPENBLAS_CORETYPE");
        let mut child = command.spawn().map_err(failed)?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let answers = answers.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { name: name.into(), child, requests, answers: BufReader::new(answers), folder })
    }

    /// Has it read the vectors and build its index.
    pub(super) fn build(&mut self, vectors: &Path, m: usize, effort: usize) -> Result<Contender, PeerError> {
        let built = self.ask(&json!({"op": "build", "vectors": vectors, "m": m, "effort": effort}))?;
        Ok(Contender {
            name: self.name.clone(),
            build_seconds: built.seconds,
            build_cpu_seconds: built.cpu_seconds,
            ..Contender::default()
        })
    }

    /// Has it write its index to a file and read it again.
    pub(super) fn store(&mut self, count: usize, figures: &mut Contender) -> Result<(), PeerError> {
        let path = self.folder.path().join("index");
        let stored = self.ask(&json!({"op": "store", "path": path}))?;
        figures.load_seconds = stored.load_seconds;
        // What they write is what they hold in memory.
        let bytes = stored.file_bytes.map(|bytes| bytes as f64 / count.max(1) as f64);
        (figures.memory_bytes_per_vector, figures.disk_bytes_per_vector) = (bytes, bytes);
        Ok(())
    }

    /// Every query once.
    pub(super) fn search(
        &mut self,
        queries: &Path,
        k: usize,
        effort: usize,
        batch: usize,
    ) -> Result<Pass, PeerError> {
        let out = self.folder.path().join("found");
        let request =
            json!({"op": "search", "queries": queries, "k": k, "effort": effort, "batch": batch, "out": out});
        let spent = self.ask(&request)?;
        let bytes = std::fs::read(&out).map_err(|source| self.lost(source))?;
        let found = bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
        let cpu_seconds = spent.cpu_seconds.ok_or_else(|| self.failed("it did not say how long it took"))?;
        Ok(Pass { cpu_seconds, found })
    }

    fn ask(&mut self, request: &Value) -> Result<Answer, PeerError> {
        if let Some(requests) = &mut self.requests {
            // A peer that has ended shows in its answer.
            let _ = writeln!(requests, "{request}");
        }
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|source| self.lost(source))?;
        let answer: Answer = serde_json::from_str(&line)
            .map_err(|_| self.failed(format!("it answered {line:?}; what it said before is above")))?;
        match answer.error {
            Some(error) => Err(self.failed(error)),
            None => Ok(answer),
        }
    }

    fn failed(&self, reason: impl Into<String>) -> PeerError {
        PeerError::Failed { name: self.name.clone(), reason: reason.into() }
    }

    fn lost(&self, source: io::Error) -> PeerError {
        self.failed(source.to_string())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        self.requests = None;
        let _ = self.child.wait();
    }
}
