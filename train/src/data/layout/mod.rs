//! Data sets as they are published: which files say what is trained on and what is judged.

mod cars;
mod cub;
mod folders;
mod imagenet;
mod in_shop;
mod mat_file;
mod sop;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::config::DataConfig;
use crate::error::TrainError;

/// How a data folder is laid out, and how it is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Stanford Online Products: two list files (`data.train`, `data.test`) of different classes.
    Sop,
    /// CUB-200-2011: `images.txt` and `image_class_labels.txt`; classes 1-100 train, 101-200 are judged.
    Cub,
    /// Cars196: `cars_annos.mat`; classes 1-98 train, 99-196 are judged.
    Cars,
    /// In-Shop Clothes Retrieval: `list_eval_partition.txt` with train, query and gallery images.
    InShop,
    /// ImageNet: `train/CLASS/` and `val/CLASS/` with the same classes.
    #[serde(rename = "imagenet")]
    ImageNet,
    /// A folder per class; the first `data.train_share` of the classes by name train, the others are judged.
    Folders,
}

/// What is trained on and what is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// Training images.
    pub train: Dataset,
    /// Images that are judged.
    pub test: TestSet,
}

/// Images that are judged by retrieval.
#[derive(Debug, Clone, PartialEq)]
pub struct TestSet {
    /// Images that are searched.
    pub gallery: Dataset,
    /// Images that are searched with, in the gallery's class numbers; without, each gallery image is searched among the others.
    pub queries: Option<Dataset>,
    /// Whether its classes are those of the training images, with the same numbers, so that a classifier can be judged.
    pub has_training_classes: bool,
}

impl TestSet {
    /// Other classes than in training, each image searched among the others.
    pub fn leave_one_out(gallery: Dataset) -> Self {
        Self { gallery, queries: None, has_training_classes: false }
    }
}

/// Images and classes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    images: usize,
    classes: usize,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} images of {} classes", self.images, self.classes)
    }
}

impl Layout {
    /// Ranks at which recall is customarily reported.
    pub fn recall_at(self) -> &'static [u32] {
        match self {
            Self::Sop => &[1, 10, 100],
            Self::InShop => &[1, 10, 20, 30, 40, 50],
            Self::Cub | Self::Cars | Self::ImageNet | Self::Folders => &[1, 2, 4, 8],
        }
    }

    /// Name and counts of the published data set: training images, and the parts that are judged.
    fn published(self) -> Option<(&'static str, Vec<(&'static str, Count)>)> {
        let part = |name, images, classes| (name, Count { images, classes });
        Some(match self {
            Self::Sop => (
                "Stanford Online Products",
                vec![part("train", 59_551, 11_318), part("test", 60_502, 11_316)],
            ),
            Self::Cub => ("CUB-200-2011", vec![part("train", 5_864, 100), part("test", 5_924, 100)]),
            Self::Cars => ("Cars196", vec![part("train", 8_054, 98), part("test", 8_131, 98)]),
            Self::InShop => (
                "In-Shop Clothes Retrieval",
                vec![
                    part("train", 25_882, 3_997),
                    part("gallery", 12_612, 3_985),
                    part("query", 14_218, 3_985),
                ],
            ),
            Self::ImageNet => {
                ("ImageNet-1k", vec![part("train", 1_281_167, 1_000), part("val", 50_000, 1_000)])
            }
            Self::Folders => return None,
        })
    }
}

/// Reads the data folder `data` in the configured layout and checks it: every file there, the counts those of the published data
/// set (a warning that names both, or with `data.strict_counts` an error). `root` is where a SOP list's paths start from, if
/// not from the list's own folder.
///
/// # Errors
/// A list that cannot be read (file and line), classes without images, missing files (all of them counted, the first named).
pub fn read_splits(config: &DataConfig, data: &Path, root: Option<&Path>) -> Result<Splits, TrainError> {
    let splits = match config.layout {
        Layout::Sop => sop::read(data, root, &config.train, &config.test),
        Layout::Cub => cub::read(data),
        Layout::Cars => cars::read(data),
        Layout::InShop => in_shop::read(data),
        Layout::ImageNet => imagenet::read(data),
        Layout::Folders => folders::read(data, config.train_share),
    }?;
    let parts: Vec<&Dataset> =
        [Some(&splits.train), Some(&splits.test.gallery), splits.test.queries.as_ref()]
            .into_iter()
            .flatten()
            .collect();
    for part in &parts {
        part.check_files()?;
    }
    check_counts(config, data, &parts)?;
    Ok(splits)
}

fn check_counts(config: &DataConfig, data: &Path, parts: &[&Dataset]) -> Result<(), TrainError> {
    let Some((name, published)) = config.layout.published() else { return Ok(()) };
    let differences: Vec<String> = published
        .iter()
        .zip(parts)
        .filter_map(|((part, expected), found)| {
            let found = Count { images: found.images.len(), classes: found.classes };
            (found != *expected).then(|| format!("{part}: found {found}, expected {expected}"))
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    let reason = format!("this is not {name} as published ({})", differences.join("; "));
    if config.strict_counts {
        return Err(TrainError::Data { list: data.to_owned(), reason });
    }
    eprintln!("warning: {}: {reason}; figures cannot be compared with published ones", data.display());
    Ok(())
}

/// The first of `names` that exists below `data`.
///
/// # Errors
/// None is there; the message names all that were looked for.
fn find(data: &Path, names: &[&str]) -> Result<PathBuf, TrainError> {
    let found = names.iter().map(|name| data.join(name)).find(|path| path.exists());
    found.ok_or_else(|| TrainError::Data {
        list: data.to_owned(),
        reason: format!("none of these is there: {}", names.join(", ")),
    })
}

/// Lines of a text file with their numbers, from 1, without empty ones.
fn lines(path: &Path) -> Result<Vec<(usize, String)>, TrainError> {
    let text = fs_err::read_to_string(path)?;
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim().to_owned()));
    Ok(numbered.filter(|(_, line)| !line.is_empty()).collect())
}

/// An error at a line of a file.
fn line_error(path: &Path, line: usize, reason: impl fmt::Display) -> TrainError {
    TrainError::Data { list: path.to_owned(), reason: format!("line {line}: {reason}") }
}

/// `path` below `folder`; refuses paths that lead out of it.
fn inside(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let relative = Path::new(path);
    let is_plain = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if is_plain && !path.is_empty() {
        Ok(folder.join(relative))
    } else {
        Err(format!("path {path:?} leads out of {}", folder.display()))
    }
}
