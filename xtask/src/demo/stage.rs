//! Stages of the demo that are skipped when nothing they depend on has changed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Hash of everything that a stage's result depends on.
#[derive(Clone)]
pub(super) struct Key(Sha256);

impl Key {
    pub(super) fn new(stage: &str) -> Self {
        Self(Sha256::new()).text(stage)
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        // The length keeps "ab", "c" apart from "a", "bc".
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    pub(super) fn file(mut self, path: &Path) -> Result<Self> {
        let hash = dfml_models::sha256_file(path).with_context(|| path.display().to_string())?;
        self.0.update(hash);
        Ok(self)
    }

    pub(super) fn files<'a>(self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<Self> {
        paths.into_iter().try_fold(self, |key, path| key.file(path))
    }

    pub(super) fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// How long a stage took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Timing {
    pub(super) stage: String,
    /// Seconds of the run that made the result; an earlier one if `is_cached`.
    pub(super) seconds: f64,
    #[serde(rename = "cached")]
    pub(super) is_cached: bool,
}

/// What is written about a stage before and after it.
#[derive(Serialize, Deserialize)]
struct Record {
    key: String,
    /// `None` while the stage is under way.
    seconds: Option<f64>,
}

/// What a stage leaves on disk.
#[derive(Clone, Copy)]
pub(super) enum Output<'a> {
    /// A file or folder of its own.
    Makes(&'a Path),
    /// An entry in what another stage made.
    Amends(&'a Path),
}

/// Runs stages, and remembers in a folder which results are there.
pub(super) struct Stages {
    records: PathBuf,
    pub(super) timings: Vec<Timing>,
}

impl Stages {
    pub(super) fn new(records: PathBuf) -> Result<Self> {
        fs_err::create_dir_all(&records)?;
        Ok(Self { records, timings: Vec::new() })
    }

    /// Runs a stage that is quick when there is nothing to do, such as cargo.
    pub(super) fn always<T>(&mut self, stage: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("\n=== {stage}");
        let started = Instant::now();
        let made = work().with_context(|| format!("{stage} failed"))?;
        self.note(stage, started.elapsed().as_secs_f64(), false);
        Ok(made)
    }

    /// Runs a stage unless its output is there and was made with the same key. What a stage with another key left is
    /// removed first; what an interrupted one with the same key left is not, so that it can go on.
    pub(super) fn run(
        &mut self,
        stage: &str,
        key: Key,
        output: Output<'_>,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let (Output::Makes(path) | Output::Amends(path)) = output;
        let file = self.records.join(format!("{}.json", stage.replace(' ', "-")));
        let key = key.finish();
        let known = fs_err::read(&file).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        let known = known.filter(|record| record.key == key && path.exists());
        if let Some(seconds) = known.as_ref().and_then(|record| record.seconds) {
            self.note(stage, seconds, true);
            return Ok(());
        }
        eprintln!("\n=== {stage}");
        if known.is_none() && matches!(output, Output::Makes(_)) {
            remove(path)?;
        }
        write(&file, &Record { key: key.clone(), seconds: None })?;
        let started = Instant::now();
        work().with_context(|| format!("{stage} failed"))?;
        let seconds = started.elapsed().as_secs_f64();
        write(&file, &Record { key, seconds: Some(seconds) })?;
        self.note(stage, seconds, false);
        Ok(())
    }

    fn note(&mut self, stage: &str, seconds: f64, is_cached: bool) {
        if is_cached {
            eprintln!("=== {stage}: done before (took {seconds:.1} s)");
        } else {
            eprintln!("=== {stage}: {seconds:.1} s");
        }
        self.timings.push(Timing { stage: stage.to_owned(), seconds, is_cached });
    }
}

fn remove(output: &Path) -> Result<()> {
    if output.is_dir() {
        fs_err::remove_dir_all(output)?;
    } else if output.exists() {
        fs_err::remove_file(output)?;
    }
    Ok(())
}

fn write(file: &Path, record: &Record) -> Result<()> {
    Ok(fs_err::write(file, serde_json::to_vec(record)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a stage that writes a file; returns whether it ran.
    fn ran(folder: &Path, key: &str) -> bool {
        let mut stages = Stages::new(folder.join("records")).unwrap();
        let output = folder.join("out");
        let mut has_run = false;
        let work = || {
            has_run = true;
            Ok(fs_err::write(folder.join("out"), key)?)
        };
        stages.run("a stage", Key::new("s").text(key), Output::Makes(&output), work).unwrap();
        assert_eq!(stages.timings[0].is_cached, !has_run);
        assert_eq!(fs_err::read_to_string(&output).unwrap(), key);
        has_run
    }

    #[test]
    fn a_stage_runs_again_when_its_key_or_output_changes() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ran(folder.path(), "one"));
        assert!(!ran(folder.path(), "one"));
        assert!(ran(folder.path(), "two"));
        assert!(!ran(folder.path(), "two"));
        fs_err::remove_file(folder.path().join("out")).unwrap();
        assert!(ran(folder.path(), "two"));
    }

    #[test]
    fn an_interrupted_stage_goes_on_and_a_changed_one_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        let mut stages = Stages::new(folder.path().join("records")).unwrap();
        let mut attempt = |key: &str, succeeds: bool| {
            let mut found = None;
            let outcome = stages.run("s", Key::new(key), Output::Makes(&output), || {
                found = Some(output.exists());
                fs_err::write(&output, "half")?;
                anyhow::ensure!(succeeds, "interrupted");
                Ok(())
            });
            assert_eq!(outcome.is_ok(), succeeds);
            found
        };
        assert_eq!(attempt("one", false), Some(false));
        assert_eq!(attempt("one", false), Some(true), "what was done is gone");
        assert_eq!(attempt("two", false), Some(false), "what another key left is still there");
        assert_eq!(attempt("two", true), Some(true));
        assert_eq!(attempt("two", true), None);
    }

    #[test]
    fn what_is_only_amended_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        fs_err::write(&output, "made before").unwrap();
        let mut stages = Stages::new(folder.path().join("records")).unwrap();
        for key in ["one", "two"] {
            stages.run("s", Key::new(key), Output::Amends(&output), || Ok(())).unwrap();
        }
        assert_eq!(fs_err::read_to_string(&output).unwrap(), "made before");
    }

    #[test]
    fn keys_tell_the_order_of_words() {
        let key = |words: &[&str]| words.iter().fold(Key::new("s"), |key, word| key.text(word)).finish();
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["ab"]), key(&["ab"]));
    }
}
