//! The training configuration: TOML files in `configs/train/`, every key with a default but the name.

mod data;
mod loss;
mod model;
mod optimizer;
mod run;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::TrainError;

pub use data::{BadImage, DataConfig};
pub use loss::LossConfig;
pub use model::{ArchChoice, ModelConfig};
pub use optimizer::{Algorithm, OptimizerConfig, Schedule};
pub use run::{Precision, RunConfig, SelectOn};

/// A training run's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Name of the model that comes out.
    pub name: String,
    /// Which images, how they are split and cropped.
    #[serde(default)]
    pub data: DataConfig,
    /// Which network.
    #[serde(default)]
    pub model: ModelConfig,
    /// The loss and its weights.
    #[serde(default)]
    pub loss: LossConfig,
    /// Optimiser and schedule.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Device, precision, checkpoints, and by what the best epoch is chosen.
    #[serde(default)]
    pub run: RunConfig,
}

impl TrainConfig {
    /// Reads and checks a configuration file, with `overrides` of the form `section.key=value` over it (value in TOML; a bare word is
    /// a string).
    ///
    /// # Errors
    /// [`TrainError::Config`] with the line and key for unknown keys, wrong types and values out of range.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        Self::parse(path, &fs_err::read_to_string(path)?, overrides)
    }

    /// As [`read`](Self::read), from a text; `path` is for messages.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, text: &str, overrides: &[String]) -> Result<Self, TrainError> {
        let error = |reason: String| TrainError::Config { path: path.to_owned(), reason };
        // Once by itself, so that mistakes in the file are reported with their line.
        let mut config: Self = toml::from_str(text).map_err(|e| error(e.to_string()))?;
        if !overrides.is_empty() {
            let mut table: toml::Table = toml::from_str(text).map_err(|e| error(e.to_string()))?;
            for assignment in overrides {
                assign(&mut table, assignment).map_err(|e| error(format!("{assignment}: {e}")))?;
            }
            let named = |e: toml::de::Error| error(format!("with {}: {}", overrides.join(", "), e.message()));
            config = table.try_into().map_err(named)?;
        }
        config.check().map_err(error)?;
        Ok(config)
    }

    /// The settings as a TOML file.
    ///
    /// # Errors
    /// Settings that TOML cannot express, which no valid configuration has.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|e| TrainError::Io(std::io::Error::other(e)))
    }

    /// Checks values against each other.
    ///
    /// # Errors
    /// A sentence naming the key.
    pub fn check(&self) -> Result<(), String> {
        self.data.check()?;
        self.model.check()?;
        self.loss.check()?;
        self.optimizer.check()?;
        self.run.check()
    }
}

/// Sets `section.key` in `table` to a value.
fn assign(table: &mut toml::Table, assignment: &str) -> Result<(), String> {
    let (key, value) = assignment.split_once('=').ok_or("not of the form section.key=value")?;
    let value = value.trim();
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"));
    let value = match parsed.ok().and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        None => toml::Value::String(value.to_owned()),
    };
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().filter(|last| !last.is_empty()).ok_or("the key is empty")?;
    let mut target = table;
    for part in parts {
        let next = target.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        target = next.as_table_mut().ok_or_else(|| format!("{part} is a value, not a section"))?;
    }
    target.insert(last.to_owned(), value);
    Ok(())
}

/// An error unless `value` is at least 1.
fn positive(name: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("{name} must be at least 1")) } else { Ok(()) }
}

/// An error unless `value` lies in `low..=high`.
fn within(name: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("{name} is {value}, not in {low}..={high}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::LossKind;

    fn read(text: &str, overrides: &[&str]) -> Result<TrainConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        fs_err::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        TrainConfig::read(&path, &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_go_over_the_file() {
        let text = "name = \"a\"\n[optimizer]\nepochs = 3\n";
        let config = read(text, &["optimizer.epochs=7", "run.device=cpu", "data.layout=cub"]).unwrap();
        assert_eq!((config.optimizer.epochs, config.run.device.as_str()), (7, "cpu"));
        assert_eq!(config.data.layout, crate::data::Layout::Cub);
        let error = read(text, &["optimizer.epochs=many"]).unwrap_err();
        assert!(error.contains("optimizer.epochs=many") && error.contains("invalid type"), "{error}");
        assert!(read(text, &["optimizer.epoch=1"]).unwrap_err().contains("epoch"));
        assert!(read(text, &["name.x=1"]).unwrap_err().contains("name is a value"));
    }

    #[test]
    fn losses_and_algorithms_are_chosen_by_kind() {
        let text = "name = \"a\"\n[loss.metric]\nkind = \"triplet\"\n[optimizer.algorithm]\nkind = \"sgd\"\nmomentum = 0.8\n";
        let config = read(text, &[]).unwrap();
        assert!(matches!(config.loss.metric, LossKind::Triplet(_)), "{:?}", config.loss.metric);
        assert_eq!(config.optimizer.algorithm, Algorithm::Sgd { momentum: 0.8, nesterov: false });
        assert_eq!(
            config,
            toml::from_str(&config.to_toml().unwrap()).unwrap(),
            "what is written reads the same"
        );
    }

    #[test]
    fn mistakes_are_named_with_line_or_key() {
        let error = read("name = \"a\"\n[data]\nbatchsize = 3\n", &[]).unwrap_err();
        assert!(error.contains("line 3") && error.contains("batchsize"), "{error}");
        for (assignment, expected) in [
            ("data.batch_size=0", "data.batch_size must be at least 1"),
            ("data.validation_share=1.5", "data.validation_share is 1.5"),
            ("optimizer.learning_rate=-1.0", "optimizer.learning_rate is -1"),
            ("optimizer.ema_decay=1.0", "optimizer.ema_decay is 1"),
            ("run.device=gpu", "run.device is \"gpu\""),
        ] {
            let error = read("name = \"a\"\n", &[assignment]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_presets_of_the_repository_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/train");
        let mut names = Vec::new();
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            TrainConfig::read(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
            names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
        for expected in ["cars", "cub", "demo", "imagenet", "inshop", "sop"] {
            assert!(names.iter().any(|name| name == expected), "no {expected} among {names:?}");
        }
    }
}
