//! A folder per class.

use std::path::{Path, PathBuf};

use super::{Splits, TestSet};
use crate::data::Dataset;
use crate::error::TrainError;

/// Extensions of the image files that can be read.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

pub(super) fn read(data: &Path, train_share: f64) -> Result<Splits, TrainError> {
    let classes = class_folders(data)?;
    let cut = (classes.len() as f64 * train_share).round() as usize;
    if cut == 0 || cut == classes.len() {
        return Err(TrainError::Data {
            list: data.to_owned(),
            reason: format!(
                "{} class folders cannot be split with train_share = {train_share}: one side would be empty",
                classes.len()
            ),
        });
    }
    let part = |folders: &[PathBuf]| Ok::<_, TrainError>(Dataset::new(data, entries(folders)?));
    Ok(Splits { train: part(&classes[..cut])?, test: TestSet::leave_one_out(part(&classes[cut..])?) })
}

/// The folders in `folder`, by name; hidden ones are left out.
pub(super) fn class_folders(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut folders = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !is_hidden(&path) {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// The images in class folders, by name, each with its folder's name as class.
///
/// # Errors
/// A folder without images, by name.
pub(super) fn entries(folders: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, TrainError> {
    let mut entries = Vec::new();
    for folder in folders {
        let class = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut images = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            let path = entry?.path();
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            if EXTENSIONS.contains(&extension.as_str()) && !is_hidden(&path) {
                images.push(path);
            }
        }
        if images.is_empty() {
            let reason = format!("class {class:?} has no images ({})", EXTENSIONS.join(", "));
            return Err(TrainError::Data { list: folder.clone(), reason });
        }
        images.sort();
        entries.extend(images.into_iter().map(|image| (image, class.clone())));
    }
    Ok(entries)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}
