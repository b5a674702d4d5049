//! Checkpoints of a run: written atomically, checked when read, the last few and the best kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dfml_models::{Architecture, TensorMap, load_metadata, load_weights, save_safetensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::state::RunState;
use crate::error::TrainError;

/// Version of the format.
const FORMAT: u32 = 1;
const EXTENSION: &str = "safetensors";
const BEST: &str = "best.safetensors";

/// Everything a run needs to go on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checkpoint {
    /// The network's tensors in the form in which they are in memory.
    pub(super) network: TensorMap,
    /// The loss's own tensors.
    pub(super) loss: TensorMap,
    /// The optimiser's tensors.
    pub(super) optimizer: TensorMap,
    /// The moving average, if one is kept.
    pub(super) ema: TensorMap,
    pub(super) header: Header,
}

/// What is not tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) architecture: Architecture,
    /// The settings, as TOML.
    pub(super) config: String,
    pub(super) state: RunState,
}

impl Header {
    pub(super) fn new(architecture: Architecture, config: String, state: RunState) -> Self {
        Self { format: FORMAT, architecture, config, state }
    }
}

impl Checkpoint {
    /// Writes the checkpoint whole or not at all; what was under the name before stays until then.
    fn save(&self, path: &Path) -> Result<(), TrainError> {
        let mut tensors = TensorMap::new();
        for (prefix, part) in self.parts() {
            tensors.extend(part.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())));
        }
        let header = serde_json::to_string(&self.header).map_err(std::io::Error::other)?;
        let sha256 = digest(&tensors, &header);
        let metadata = BTreeMap::from([("header".to_owned(), header), ("sha256".to_owned(), sha256)]);
        Ok(save_safetensors(path, &tensors, &metadata)?)
    }

    fn parts(&self) -> [(&'static str, &TensorMap); 4] {
        [
            ("network.", &self.network),
            ("loss.", &self.loss),
            ("optimizer.", &self.optimizer),
            ("ema.", &self.ema),
        ]
    }

    /// Reads a checkpoint and proves that it is the one that was written.
    ///
    /// # Errors
    /// A file that is damaged, of another format, or no checkpoint of a run.
    pub(super) fn load(path: &Path) -> Result<Self, TrainError> {
        let error = |reason: String| TrainError::Checkpoint { path: path.to_owned(), reason };
        let metadata = load_metadata(path)?;
        let (Some(header), Some(sha256)) = (metadata.get("header"), metadata.get("sha256")) else {
            return Err(error("it is not a checkpoint of a training run".into()));
        };
        let tensors = load_weights(path)?;
        if digest(&tensors, header) != *sha256 {
            return Err(error("its contents are not what was written: the file is damaged".into()));
        }
        let header: Header = serde_json::from_str(header).map_err(|e| error(e.to_string()))?;
        if header.format != FORMAT {
            return Err(error(format!("format {}; this program reads {FORMAT}", header.format)));
        }
        let mut parts: BTreeMap<&str, TensorMap> = BTreeMap::new();
        for (name, tensor) in tensors {
            let Some((part, name)) = name.split_once('.') else {
                return Err(error(format!("tensor {name} belongs to no part")));
            };
            let part = ["network", "loss", "optimizer", "ema"].into_iter().find(|known| *known == part);
            let part = part.ok_or_else(|| error(format!("tensor {name} belongs to no part")))?;
            parts.entry(part).or_default().insert(name.to_owned(), tensor);
        }
        let mut take = |part| parts.remove(part).unwrap_or_default();
        Ok(Self {
            network: take("network"),
            loss: take("loss"),
            optimizer: take("optimizer"),
            ema: take("ema"),
            header,
        })
    }
}

/// SHA-256 of names, shapes, values and header.
fn digest(tensors: &TensorMap, header: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(header.as_bytes());
    for (name, tensor) in tensors {
        hash.update(name.as_bytes());
        tensor.shape.iter().for_each(|&extent| hash.update((extent as u64).to_le_bytes()));
        hash.update(bytemuck::cast_slice::<f32, u8>(&tensor.data));
    }
    hex::encode(hash.finalize())
}

/// The folder of a run's checkpoints.
#[derive(Debug, Clone)]
pub(super) struct CheckpointDir {
    folder: PathBuf,
    keep: usize,
}

impl CheckpointDir {
    pub(super) fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep }
    }

    /// Where the best epoch's checkpoint is.
    pub(super) fn best(&self) -> PathBuf {
        self.folder.join(BEST)
    }

    /// Writes the checkpoint under its step's name, then removes all but the last few.
    pub(super) fn save(&self, checkpoint: &Checkpoint) -> Result<PathBuf, TrainError> {
        fs_err::create_dir_all(&self.folder)?;
        let path = self.folder.join(format!("step-{:08}.{EXTENSION}", checkpoint.header.state.step));
        checkpoint.save(&path)?;
        let all = self.list()?;
        for old in &all[..all.len().saturating_sub(self.keep)] {
            fs_err::remove_file(old)?;
        }
        Ok(path)
    }

    /// Writes the checkpoint as the best.
    pub(super) fn save_best(&self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        fs_err::create_dir_all(&self.folder)?;
        checkpoint.save(&self.best())
    }

    /// The checkpoints by step, the oldest first; the best is not among them.
    pub(super) fn list(&self) -> Result<Vec<PathBuf>, TrainError> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut paths = Vec::new();
        for entry in fs_err::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("step-") && name.ends_with(EXTENSION) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// The newest checkpoint, for messages.
    pub(super) fn newest(&self) -> Option<PathBuf> {
        self.list().ok()?.pop()
    }

    /// The newest checkpoint that is whole, with a warning for each that is not; `None` if there are none.
    ///
    /// # Errors
    /// There are checkpoints, but none can be read: the error of the newest.
    pub(super) fn load_newest(&self) -> Result<Option<Checkpoint>, TrainError> {
        let mut first_error = None;
        for path in self.list()?.into_iter().rev() {
            match Checkpoint::load(&path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => {
                    eprintln!("warning: {error}; looking for an older checkpoint");
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(None), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::loss_scale::LossScale;
    use dfml_models::{Tensor, Vit};

    fn checkpoint(step: usize) -> Checkpoint {
        let map = |value: f32| TensorMap::from([("a.b".to_owned(), Tensor::new(vec![2], vec![value, -0.0]))]);
        let state = RunState {
            seed: 3,
            epoch: 2,
            batch: 4,
            step,
            sums: Default::default(),
            records: Vec::new(),
            best: None,
            before: None,
            loss_scale: LossScale::none(),
            optimizer_steps: Default::default(),
            skipped: Default::default(),
            weights_sha256: String::new(),
        };
        let architecture = Architecture::Vit(Vit::deit_small_distilled());
        Checkpoint {
            network: map(1.5),
            loss: map(f32::MIN_POSITIVE),
            optimizer: map(3.0),
            ema: TensorMap::new(),
            header: Header::new(architecture, "name = \"x\"".to_owned(), state),
        }
    }

    #[test]
    fn what_is_written_is_read_and_only_the_last_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(folder.path().join("checkpoints"), 2);
        assert_eq!(dir.load_newest().unwrap(), None);
        for step in [5, 10, 120] {
            dir.save(&checkpoint(step)).unwrap();
        }
        dir.save_best(&checkpoint(10)).unwrap();
        let names: Vec<_> = dir.list().unwrap().iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["step-00000010.safetensors", "step-00000120.safetensors"]);
        assert_eq!(dir.load_newest().unwrap().unwrap(), checkpoint(120));
        assert_eq!(Checkpoint::load(&dir.best()).unwrap(), checkpoint(10));
    }

    #[test]
    fn a_damaged_checkpoint_is_found_out_and_an_older_one_taken() {
        let folder = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(folder.path().to_owned(), 3);
        dir.save(&checkpoint(1)).unwrap();
        let newest = dir.save(&checkpoint(2)).unwrap();
        let mut bytes = fs_err::read(&newest).unwrap();
        // The last byte is a value's; the file is still well-formed.
        *bytes.last_mut().unwrap() ^= 1;
        fs_err::write(&newest, &bytes).unwrap();
        assert!(Checkpoint::load(&newest).unwrap_err().to_string().contains("the file is damaged"));
        assert_eq!(dir.load_newest().unwrap().unwrap().header.state.step, 1);
        fs_err::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(dir.load_newest().unwrap().unwrap().header.state.step, 1);
        fs_err::write(dir.list().unwrap().remove(0), b"").unwrap();
        assert!(dir.load_newest().is_err(), "no checkpoint is whole");
    }
}
