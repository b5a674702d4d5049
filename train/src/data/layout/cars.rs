//! Cars196: a MATLAB file with an array of structures.

use std::path::{Path, PathBuf};

use super::mat_file::{self, Value};
use super::{Splits, TestSet, find, inside};
use crate::data::Dataset;
use crate::error::TrainError;

/// Classes up to this one train, those above are judged.
const LAST_TRAINING_CLASS: u64 = 98;

pub(super) fn read(data: &Path) -> Result<Splits, TrainError> {
    let file = find(data, &["cars_annos.mat", "cars196/cars_annos.mat"])?;
    let folder = file.parent().unwrap_or(data);
    let error = |reason: String| TrainError::Data { list: file.clone(), reason };
    let variables = mat_file::read(&file)?;
    let Some(Value::Structs(annotations)) = variables.get("annotations") else {
        return Err(error("it has no array of structures called `annotations`".into()));
    };
    let (mut train, mut test): (Vec<(PathBuf, u64)>, Vec<_>) = (Vec::new(), Vec::new());
    for (index, annotation) in annotations.iter().enumerate() {
        let at = |reason: String| error(format!("annotation {}: {reason}", index + 1));
        let Some(Value::Text(path)) = annotation.get("relative_im_path") else {
            return Err(at("it has no text `relative_im_path`".into()));
        };
        let class = match annotation.get("class") {
            Some(Value::Numbers(numbers)) => {
                numbers.first().filter(|class| **class >= 1.0).map(|&class| class as u64)
            }
            _ => None,
        };
        let class = class.ok_or_else(|| at("it has no number `class` of 1 or more".into()))?;
        let path = inside(folder, path).map_err(at)?;
        if class <= LAST_TRAINING_CLASS { &mut train } else { &mut test }.push((path, class));
    }
    Ok(Splits { train: Dataset::new(&file, train), test: TestSet::leave_one_out(Dataset::new(&file, test)) })
}
