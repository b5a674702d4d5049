//! Python doing the same work: `tests/peers/embed_pillow.py`, kept running, so that its rounds lie between ours.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use super::Spent;

/// A running peer. Dropping it ends it.
pub struct Peer {
    child: Child,
    jobs: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _list: tempfile::NamedTempFile,
}

/// Python could not be started or did not answer. What it has to say about that is on standard error.
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
    /// It ended, or answered something else.
    #[error("the Python peer answered {found:?}; what it said before is above")]
    Answer {
        /// Its answer.
        found: String,
    },
}

impl Peer {
    /// Starts `script` and waits until it has loaded `model`.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn start(
        python: &Path,
        script: &Path,
        model: &Path,
        files: &[PathBuf],
        (batch, threads): (usize, usize),
    ) -> Result<Self, PeerError> {
        let failed = |source| PeerError::Io { python: python.to_path_buf(), source };
        let mut list = tempfile::NamedTempFile::new().map_err(failed)?;
        for file in files {
            let file = std::path::absolute(file).map_err(failed)?;
            writeln!(list, "{}", file.display()).map_err(failed)?;
        }
        let mut command = Command::new(python);
        command.arg(script).arg("--model").arg(model).arg("--list").arg(list.path());
        command.args(["--batch", &batch.to_string(), "--threads", &threads.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let (jobs, answers) = (child.stdin.take(), child.stdout.take());
        let answers = answers.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let mut peer = Self { child, jobs, answers: BufReader::new(answers), _list: list };
        match peer.answer()?.as_str() {
            "ready" => Ok(peer),
            other => Err(PeerError::Answer { found: other.to_owned() }),
        }
    }

    /// One round over all files.
    pub(super) fn run(&mut self) -> Result<Spent, PeerError> {
        self.ask("run")
    }

    /// One round whose vectors are written to an .npy file.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn vectors(&mut self, file: &Path) -> Result<Spent, PeerError> {
        self.ask(&format!("vectors {}", file.display()))
    }

    fn ask(&mut self, job: &str) -> Result<Spent, PeerError> {
        if let Some(jobs) = &mut self.jobs {
            // A peer that has ended shows in its answer.
            let _ = writeln!(jobs, "{job}");
        }
        let answer = self.answer()?;
        let mut seconds = answer.split(' ').map(|number| number.parse::<f64>().ok().filter(|s| *s >= 0.0));
        match (seconds.next().flatten(), seconds.next().flatten()) {
            (Some(clock), Some(cpu)) => {
                Ok(Spent { clock: Duration::from_secs_f64(clock), cpu: Duration::from_secs_f64(cpu) })
            }
            _ => Err(PeerError::Answer { found: answer }),
        }
    }

    fn answer(&mut self) -> Result<String, PeerError> {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .map_err(|source| PeerError::Io { python: PathBuf::from("python"), source })?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        self.jobs = None;
        let _ = self.child.wait();
    }
}
