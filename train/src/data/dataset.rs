//! A list of labelled images with dense class numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dfml_index::sop::SopList;

use crate::error::TrainError;

/// Labelled images; class numbers are dense, in the order of the class ids of the list.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Image files.
    pub images: Vec<PathBuf>,
    /// Class of each image, `0..classes`.
    pub labels: Vec<usize>,
    /// Number of classes.
    pub classes: usize,
}

impl Dataset {
    /// Reads a list in SOP layout (`image_id class_id super_class_id path`), whose paths start from `root` (the list's
    /// own folder if `None`), and checks that every image file is there.
    ///
    /// # Errors
    /// A list that cannot be read (file and line), is empty, or names missing files (count and first names).
    pub fn read_sop(list: &Path, root: Option<&Path>) -> Result<Self, TrainError> {
        let entries = SopList::read(list, root)?;
        let mut numbers: BTreeMap<u64, usize> = entries.entries.iter().map(|e| (e.class_id, 0)).collect();
        for (number, slot) in numbers.values_mut().enumerate() {
            *slot = number;
        }
        let dataset = Self {
            images: entries.entries.iter().map(|e| entries.root.join(&e.path)).collect(),
            labels: entries.entries.iter().map(|e| numbers[&e.class_id]).collect(),
            classes: numbers.len(),
        };
        dataset.check(list)?;
        Ok(dataset)
    }

    fn check(&self, list: &Path) -> Result<(), TrainError> {
        let error = |reason| TrainError::Data { list: list.to_owned(), reason };
        if self.images.is_empty() {
            return Err(error("the list has no images".into()));
        }
        let missing: Vec<_> = self.images.iter().filter(|path| !path.is_file()).collect();
        if !missing.is_empty() {
            let first: Vec<_> = missing.iter().take(3).map(|path| path.display().to_string()).collect();
            return Err(error(format!(
                "{} of {} image files are missing, the first: {}",
                missing.len(),
                self.images.len(),
                first.join(", ")
            )));
        }
        Ok(())
    }

    /// Refuses a training list from which nothing can be learned.
    ///
    /// # Errors
    /// Fewer than two classes, or no class with two images.
    pub fn check_trainable(&self, list: &Path) -> Result<(), TrainError> {
        let error = |reason: String| TrainError::Data { list: list.to_owned(), reason };
        if self.classes < 2 {
            return Err(error("metric learning needs at least 2 classes, the list has 1".into()));
        }
        if self.images.len() == self.classes {
            return Err(error("every class has a single image; nothing says what looks alike".into()));
        }
        Ok(())
    }
}
