//! ImageNet: a folder per class, once for training and once for validation.

use std::path::Path;

use super::folders::{class_folders, entries};
use super::{Splits, TestSet};
use crate::data::Dataset;
use crate::data::dataset::number_classes;
use crate::error::TrainError;

pub(super) fn read(data: &Path) -> Result<Splits, TrainError> {
    let (train, val) = (data.join("train"), data.join("val"));
    let (train_entries, val_entries) = (entries(&class_folders(&train)?)?, entries(&class_folders(&val)?)?);
    let numbers = number_classes(train_entries.iter().map(|(_, class)| class.clone()));
    if let Some((_, class)) = val_entries.iter().find(|(_, class)| !numbers.contains_key(class)) {
        let reason = format!("class {class:?} is not among the training classes");
        return Err(TrainError::Data { list: val, reason });
    }
    Ok(Splits {
        train: Dataset::numbered(&train, train_entries, &numbers),
        test: TestSet {
            gallery: Dataset::numbered(&val, val_entries, &numbers),
            queries: None,
            has_training_classes: true,
        },
    })
}
