//! CUB-200-2011: two text files keyed by image number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Splits, TestSet, find, inside, line_error, lines};
use crate::data::Dataset;
use crate::error::TrainError;

/// Classes up to this one train, those above are judged.
const LAST_TRAINING_CLASS: u64 = 100;

pub(super) fn read(data: &Path) -> Result<Splits, TrainError> {
    let names = find(data, &["images.txt", "CUB_200_2011/images.txt"])?;
    let folder = names.parent().unwrap_or(data);
    let classes = find(folder, &["image_class_labels.txt"])?;
    let images = folder.join("images");

    let mut paths: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for (line, text) in lines(&names)? {
        let (id, path) = pair(&names, line, &text)?;
        let path = inside(&images, path).map_err(|reason| line_error(&names, line, reason))?;
        if paths.insert(id, path).is_some() {
            return Err(line_error(&names, line, format!("image {id} comes twice")));
        }
    }
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (line, text) in lines(&classes)? {
        let (id, class) = pair(&classes, line, &text)?;
        let class: u64 = class
            .parse()
            .map_err(|_| line_error(&classes, line, format!("class {class:?} is not a number")))?;
        let path = paths
            .remove(&id)
            .ok_or_else(|| line_error(&classes, line, format!("image {id} is not in {}", names.display())))?;
        if class <= LAST_TRAINING_CLASS { &mut train } else { &mut test }.push((path, class));
    }
    if let Some((id, path)) = paths.first_key_value() {
        let reason =
            format!("image {id} ({}) has no class, nor have {} others", path.display(), paths.len() - 1);
        return Err(TrainError::Data { list: classes, reason });
    }
    Ok(Splits {
        train: Dataset::new(&names, train),
        test: TestSet::leave_one_out(Dataset::new(&names, test)),
    })
}

/// `number word`.
fn pair<'a>(file: &Path, line: usize, text: &'a str) -> Result<(u64, &'a str), TrainError> {
    let error = || line_error(file, line, format!("{text:?} is not an image number and a word"));
    let (id, word) = text.split_once(' ').ok_or_else(error)?;
    Ok((id.parse().map_err(|_| error())?, word.trim()))
}
