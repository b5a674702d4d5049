//! The log of a run: `metrics.jsonl`, one JSON object a line, and the same figures for TensorBoard.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::EventFile;
use crate::trainer::EpochRecord;

/// Name of the log in a run directory.
const FILE: &str = "metrics.jsonl";

/// Figures of one optimiser step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// 1-based.
    pub epoch: usize,
    /// 1-based, over all epochs.
    pub step: usize,
    /// Total loss.
    pub loss: f64,
    /// Loss of the full stream.
    pub full: f64,
    /// Loss of the routed stream.
    pub routed: f64,
    /// Distillation term.
    pub distill: f64,
    /// Learning rate of the pretrained weights.
    pub learning_rate: f64,
}

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Step(StepFigures),
    Epoch(EpochRecord),
}

impl Line {
    fn step(&self) -> usize {
        match self {
            Self::Step(figures) => figures.step,
            Self::Epoch(record) => record.step,
        }
    }
}

/// The log of a run.
#[derive(Debug)]
pub struct RunLog {
    path: PathBuf,
    file: fs_err::File,
    events: EventFile,
}

impl RunLog {
    /// Opens the log of the run directory `out`, which is made if needed.
    ///
    /// # Errors
    /// A file that cannot be written, by name.
    pub fn open(out: &Path) -> std::io::Result<Self> {
        fs_err::create_dir_all(out)?;
        let path = out.join(FILE);
        let file = fs_err::OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self { path, file, events: EventFile::create(&out.join("tensorboard"))? })
    }

    /// Forgets everything after `step`, from where the run goes on.
    ///
    /// # Errors
    /// The log cannot be read or written.
    pub fn rewind(&mut self, step: usize) -> std::io::Result<()> {
        let text = fs_err::read_to_string(&self.path)?;
        // A killed run may leave half a line, which is none.
        let kept = text
            .lines()
            .filter(|line| serde_json::from_str::<Line>(line).is_ok_and(|line| line.step() <= step));
        let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
        self.file = fs_err::File::create(&self.path)?;
        self.file.write_all(kept.as_bytes())?;
        if step > 0 { self.events.restart(step) } else { Ok(()) }
    }

    /// Logs a step.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn step(&mut self, figures: StepFigures) -> std::io::Result<()> {
        let scalars = [
            ("step/loss", figures.loss),
            ("step/full", figures.full),
            ("step/routed", figures.routed),
            ("step/distill", figures.distill),
            ("step/learning_rate", figures.learning_rate),
        ];
        self.events.scalars(figures.step, &scalars)?;
        self.write(&Line::Step(figures))
    }

    /// Logs the end of an epoch.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn epoch(&mut self, record: &EpochRecord) -> std::io::Result<()> {
        let mut scalars = vec![
            ("epoch/loss".to_owned(), record.loss),
            ("epoch/images_per_second".to_owned(), record.images_per_second),
            ("epoch/waiting_for_images".to_owned(), record.waiting),
        ];
        scalars.extend(
            record
                .usage
                .iter()
                .enumerate()
                .map(|(k, share)| (format!("routers/sub_block_{}", k + 1), *share)),
        );
        if let Some(selection) = &record.selection {
            let recall =
                selection.recall_at_k.iter().map(|(k, recall)| (format!("choice/recall_at_{k}"), *recall));
            scalars.extend(recall);
            scalars.push(("choice/map_at_r".to_owned(), selection.map_at_r));
        }
        let scalars: Vec<(&str, f64)> = scalars.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        self.events.scalars(record.step, &scalars)?;
        self.write(&Line::Epoch(record.clone()))
    }

    fn write(&mut self, line: &Line) -> std::io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes())
    }

    /// The steps in the log, in order.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn steps(&self) -> std::io::Result<Vec<StepFigures>> {
        let text = fs_err::read_to_string(&self.path)?;
        let step = |line: &str| match serde_json::from_str(line) {
            Ok(Line::Step(figures)) => Some(figures),
            _ => None,
        };
        Ok(text.lines().filter_map(step).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(step: usize) -> StepFigures {
        StepFigures {
            epoch: 1,
            step,
            loss: 0.1 * step as f64,
            full: 1.0,
            routed: 2.0,
            distill: 3.0,
            learning_rate: 1e-4,
        }
    }

    #[test]
    fn a_log_goes_on_from_the_step_it_is_rewound_to() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(folder.path()).unwrap();
        log.rewind(0).unwrap();
        (1..=5).for_each(|step| log.step(figures(step)).unwrap());
        // The process is killed in the middle of a line.
        log.file.write_all(b"{\"kind\":\"step\",\"epo").unwrap();
        let mut log = RunLog::open(folder.path()).unwrap();
        log.rewind(3).unwrap();
        log.step(figures(4)).unwrap();
        assert_eq!(log.steps().unwrap(), (1..=4).map(figures).collect::<Vec<_>>());
        assert_eq!(fs_err::read_dir(folder.path().join("tensorboard")).unwrap().count(), 2);
    }
}
