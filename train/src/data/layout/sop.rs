//! Stanford Online Products, and every catalogue in its layout.

use std::path::Path;

use dfml_index::sop::SopList;

use super::{Splits, TestSet};
use crate::data::Dataset;
use crate::error::TrainError;

pub(super) fn read(data: &Path, root: Option<&Path>, train: &str, test: &str) -> Result<Splits, TrainError> {
    let train = read_list(&data.join(train), root)?;
    let test = read_list(&data.join(test), root)?;
    Ok(Splits { train, test: TestSet::leave_one_out(test) })
}

/// A list `image_id class_id super_class_id path`; paths start from `root`, else from the list's own folder.
fn read_list(list: &Path, root: Option<&Path>) -> Result<Dataset, TrainError> {
    let read = SopList::read(list, root)?;
    let entries = read.entries.iter().map(|entry| (read.root.join(&entry.path), entry.class_id)).collect();
    Ok(Dataset::new(list, entries))
}
