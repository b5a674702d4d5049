//! A list of labelled images with dense class numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::TrainError;

/// Missing files that an error names.
const MISSING_NAMED: usize = 20;

/// Labelled images; class numbers are dense, in the order of the classes' ids or names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The list or folder it was read from.
    pub source: PathBuf,
    /// Image files.
    pub images: Vec<PathBuf>,
    /// Class of each image, `0..classes`.
    pub labels: Vec<usize>,
    /// Number of classes.
    pub classes: usize,
}

/// Gives every class its dense number.
pub(crate) fn number_classes<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, usize> {
    let keys: BTreeSet<K> = keys.into_iter().collect();
    keys.into_iter().enumerate().map(|(number, key)| (key, number)).collect()
}

impl Dataset {
    /// Images with the ids or names of their classes, numbered among themselves.
    pub fn new<K: Ord + Clone>(source: &Path, entries: Vec<(PathBuf, K)>) -> Self {
        let numbers = number_classes(entries.iter().map(|(_, key)| key.clone()));
        Self::numbered(source, entries, &numbers)
    }

    /// Images with the ids or names of their classes, numbered by `numbers`, in which each must be.
    pub(crate) fn numbered<K: Ord>(
        source: &Path,
        entries: Vec<(PathBuf, K)>,
        numbers: &BTreeMap<K, usize>,
    ) -> Self {
        let (images, labels) = entries.into_iter().map(|(image, key)| (image, numbers[&key])).unzip();
        Self { source: source.to_owned(), images, labels, classes: numbers.len() }
    }

    fn error(&self, reason: String) -> TrainError {
        TrainError::Data { list: self.source.clone(), reason }
    }

    /// Checks that there are images and that every file is there.
    ///
    /// # Errors
    /// An empty list; missing files, with their number and the first names.
    pub fn check_files(&self) -> Result<(), TrainError> {
        if self.images.is_empty() {
            return Err(self.error("there are no images".into()));
        }
        let missing: Vec<_> = self.images.iter().filter(|path| !path.is_file()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut reason = format!("{} of {} image files are missing:", missing.len(), self.images.len());
        for path in missing.iter().take(MISSING_NAMED) {
            reason += &format!("\n  {}", path.display());
        }
        if missing.len() > MISSING_NAMED {
            reason += &format!("\n  and {} more", missing.len() - MISSING_NAMED);
        }
        Err(self.error(reason))
    }

    /// Refuses images from which nothing can be learned; returns how many classes have a single image.
    ///
    /// # Errors
    /// Fewer than two classes, or no class with two images.
    pub fn check_trainable(&self) -> Result<usize, TrainError> {
        if self.classes < 2 {
            return Err(
                self.error(format!("metric learning needs at least 2 classes, there are {}", self.classes))
            );
        }
        let single = self.class_sizes().iter().filter(|&&size| size == 1).count();
        if single == self.classes {
            return Err(self.error("every class has a single image; nothing says what looks alike".into()));
        }
        Ok(single)
    }

    /// Number of images of each class.
    pub fn class_sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.classes];
        self.labels.iter().for_each(|&label| sizes[label] += 1);
        sizes
    }

    /// Takes `share` of the classes, drawn by `seed`, away for validation: (the rest, the validation classes).
    ///
    /// # Errors
    /// Too few classes to leave two for training, or no class with two images among the validation classes.
    pub fn split_classes(&self, share: f64, seed: u64) -> Result<(Self, Self), TrainError> {
        let count = ((self.classes as f64 * share).ceil() as usize).max(2);
        if self.classes < count + 2 {
            return Err(self.error(format!(
                "{} classes are too few to take {count} for validation: set select_on = \"last\"",
                self.classes
            )));
        }
        // Classes with two images or more first: only they can be judged.
        let sizes = self.class_sizes();
        let mut order: Vec<usize> = (0..self.classes).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        order.sort_by_key(|&class| sizes[class] < 2);
        let held: BTreeSet<usize> = order[..count].iter().copied().collect();
        let part = |wanted: bool| {
            let of_part = self.images.iter().zip(&self.labels).filter(|(_, l)| held.contains(l) == wanted);
            Self::new(&self.source, of_part.map(|(image, &label)| (image.clone(), label)).collect())
        };
        let validation = part(true);
        validation.check_trainable()?;
        Ok((part(false), validation))
    }

    /// Takes `share` of each class's images, drawn by `seed`, away for validation: (the rest, the validation images). A class of one image
    /// keeps it.
    ///
    /// # Errors
    /// No class has an image to spare.
    pub fn split_images(&self, share: f64, seed: u64) -> Result<(Self, Self), TrainError> {
        let mut left: Vec<usize> = self
            .class_sizes()
            .iter()
            .map(|&n| ((n as f64 * share).ceil() as usize).min(n.saturating_sub(1)))
            .collect();
        let mut order: Vec<usize> = (0..self.images.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut is_held = vec![false; self.images.len()];
        for image in order {
            if left[self.labels[image]] > 0 {
                left[self.labels[image]] -= 1;
                is_held[image] = true;
            }
        }
        if !is_held.contains(&true) {
            return Err(
                self.error("no class has an image to spare for validation: set select_on = \"last\"".into())
            );
        }
        let part = |wanted: bool| {
            let kept = |image: &usize| is_held[*image] == wanted;
            let images: Vec<usize> = (0..self.images.len()).filter(kept).collect();
            Self {
                source: self.source.clone(),
                images: images.iter().map(|&image| self.images[image].clone()).collect(),
                labels: images.iter().map(|&image| self.labels[image]).collect(),
                classes: self.classes,
            }
        };
        Ok((part(false), part(true)))
    }

    /// One line per image, `path label`, paths relative to `root`: what tells one list of images from another.
    pub fn listing(&self, root: &Path) -> String {
        let relative = |image: &'_ PathBuf| image.strip_prefix(root).unwrap_or(image).display().to_string();
        self.images
            .iter()
            .zip(&self.labels)
            .map(|(image, label)| format!("{} {label}\n", relative(image)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(labels: &[u64]) -> Dataset {
        let name = |i: usize| PathBuf::from(format!("/pictures/{i}.jpg"));
        Dataset::new(Path::new("list"), labels.iter().enumerate().map(|(i, &l)| (name(i), l)).collect())
    }

    #[test]
    fn classes_are_numbered_in_order_of_their_ids() {
        let set = dataset(&[70, 5, 70, 9]);
        assert_eq!((set.labels.as_slice(), set.classes), ([2, 0, 2, 1].as_slice(), 3));
        assert_eq!(set.class_sizes(), [1, 1, 2]);
        assert!(set.listing(Path::new("/pictures")).starts_with("0.jpg 2\n1.jpg 0\n"));
    }

    #[test]
    fn validation_classes_are_whole_and_apart() {
        let labels: Vec<u64> = (0..60).map(|i| i / 3).collect();
        let set = dataset(&labels);
        let (train, validation) = set.split_classes(0.2, 1).unwrap();
        assert_eq!((train.classes, validation.classes), (16, 4));
        assert_eq!((train.images.len(), validation.images.len()), (48, 12));
        assert!(validation.images.iter().all(|image| !train.images.contains(image)));
        assert!(validation.class_sizes().iter().all(|&size| size == 3));
        assert_ne!(validation.images, set.split_classes(0.2, 2).unwrap().1.images, "the seed draws them");
        let error = dataset(&[1, 1, 2, 2, 3, 3]).split_classes(0.1, 1).unwrap_err().to_string();
        assert!(error.contains("select_on"), "{error}");
    }

    #[test]
    fn validation_images_are_a_share_of_each_class() {
        let labels: Vec<u64> = (0..41).map(|i| i / 10).collect();
        let (train, held) = dataset(&labels).split_images(0.15, 1).unwrap();
        assert_eq!((train.class_sizes(), held.class_sizes()), (vec![8, 8, 8, 8, 1], vec![2, 2, 2, 2, 0]));
        assert!(held.images.iter().all(|image| !train.images.contains(image)));
        assert!(dataset(&[1, 2, 3]).split_images(0.5, 1).is_err());
    }

    #[test]
    fn lists_without_anything_to_learn_are_refused() {
        let error = |labels: &[u64]| dataset(labels).check_trainable().unwrap_err().to_string();
        assert!(error(&[1, 1, 1]).contains("at least 2 classes, there are 1"));
        assert!(error(&[1, 2, 3]).contains("every class has a single image"));
        assert_eq!(dataset(&[1, 1, 2]).check_trainable().unwrap(), 1);
    }

    #[test]
    fn missing_files_are_counted_and_named() {
        let labels: Vec<u64> = (0..25).map(|i| i / 5).collect();
        let error = dataset(&labels).check_files().unwrap_err().to_string();
        assert!(error.starts_with("list: 25 of 25 image files are missing:\n  /pictures/0.jpg\n"), "{error}");
        assert!(error.ends_with("and 5 more"), "{error}");
        assert!(dataset(&[]).check_files().unwrap_err().to_string().contains("there are no images"));
    }
}
