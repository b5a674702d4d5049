//! Settings of how a run goes on: device, precision, checkpoints, evaluation.

use serde::{Deserialize, Serialize};
use tch::{Cuda, Device};

use super::positive;
use crate::error::TrainError;

/// By what the epoch is chosen whose weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectOn {
    /// Classes held back from the training classes.
    #[default]
    Validation,
    /// The last epoch.
    Last,
    /// The test set, as the official code does. Figures chosen so are too good, and the report says so.
    Test,
}

/// Numbers that the network computes with in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// 16-bit where CUDA's autocast finds it safe, with dynamic loss scaling. CUDA only.
    Mixed,
}

/// How a run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// `cpu`, `cuda`, `cuda:N`, or `auto`: the first CUDA device if there is one.
    pub device: String,
    /// Numbers that the network computes with.
    pub precision: Precision,
    /// By what the epoch is chosen whose weights are kept.
    pub select_on: SelectOn,
    /// Epochs between two evaluations for the choice of the best; 1 judges every epoch.
    pub evaluate_every: usize,
    /// Whether the network is judged on the test set before training.
    pub evaluate_before: bool,
    /// Steps between two checkpoints within an epoch; 0 writes one after each epoch only.
    pub checkpoint_steps: usize,
    /// Checkpoints that are kept beside the best.
    pub keep_checkpoints: usize,
    /// Ranks at which recall is measured; empty takes those that are customary for the layout.
    pub recall_at: Vec<u32>,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            device: "auto".to_owned(),
            precision: Precision::F32,
            select_on: SelectOn::Validation,
            evaluate_every: 1,
            evaluate_before: true,
            checkpoint_steps: 0,
            keep_checkpoints: 2,
            recall_at: Vec::new(),
        }
    }
}

impl RunConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        positive("run.evaluate_every", self.evaluate_every)?;
        positive("run.keep_checkpoints", self.keep_checkpoints)?;
        if self.recall_at.contains(&0) {
            return Err("run.recall_at: ranks start at 1".to_owned());
        }
        parse_device(&self.device).map(|_| ())
    }

    /// The device asked for.
    ///
    /// # Errors
    /// A CUDA device that is not there, or mixed precision without one.
    pub fn device(&self) -> Result<Device, TrainError> {
        let available = if Cuda::is_available() { Cuda::device_count().max(0) as usize } else { 0 };
        let device = match parse_device(&self.device).map_err(TrainError::Device)? {
            Some(Device::Cuda(index)) if index >= available => {
                return Err(TrainError::Device(format!(
                    "run.device is {:?}, but libtorch sees {available} CUDA devices \
                     (`cargo xtask setup --with libtorch-cuda` fetches the CUDA build)",
                    self.device
                )));
            }
            Some(device) => device,
            None if available > 0 => Device::Cuda(0),
            None => Device::Cpu,
        };
        if self.precision == Precision::Mixed && !device.is_cuda() {
            return Err(TrainError::Device(
                "run.precision = \"mixed\" needs a CUDA device; on CPUs f32 is used".to_owned(),
            ));
        }
        Ok(device)
    }
}

/// The device that a word means; `None` for `auto`.
fn parse_device(word: &str) -> Result<Option<Device>, String> {
    match word {
        "auto" => Ok(None),
        "cpu" => Ok(Some(Device::Cpu)),
        "cuda" => Ok(Some(Device::Cuda(0))),
        _ => {
            let index = word.strip_prefix("cuda:").and_then(|index| index.parse().ok());
            let index =
                index.ok_or_else(|| format!("run.device is {word:?}: neither auto, cpu, cuda nor cuda:N"))?;
            Ok(Some(Device::Cuda(index)))
        }
    }
}
