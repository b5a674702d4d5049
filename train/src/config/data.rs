//! Settings of the images: layout, split, crops, batches.

use dfml_models::PixelScale;
use serde::{Deserialize, Serialize};

use super::{positive, within};
use crate::data::Layout;

/// What to do with an image that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadImage {
    /// Stop, naming it.
    #[default]
    Error,
    /// Leave it out, and say how many there were.
    Skip,
}

/// Which images are trained on and judged, and how they are cropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// How the data folder is laid out and split.
    pub layout: Layout,
    /// Training list of the layout `sop`, relative to the data folder.
    pub train: String,
    /// List of the images that are judged, of other classes; likewise.
    pub test: String,
    /// Share of the classes, in order of their names, that trains in the layout `folders`.
    pub train_share: f64,
    /// Share of the training classes held back to choose the best epoch by, where `run.select_on` is `validation`.
    pub validation_share: f64,
    /// Whether other counts than those of the published data set are an error instead of a warning.
    pub strict_counts: bool,
    /// What to do with an image that cannot be decoded.
    pub on_bad_image: BadImage,
    /// Side of the square network input, in pixels.
    pub image_size: u32,
    /// Short side that evaluation images are resized to before the centre crop, in pixels.
    pub resize_short: u32,
    /// Scale of the pixel values; by default the one that the network was pretrained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<PixelScale>,
    /// Images per forward pass.
    pub batch_size: usize,
    /// Images of one class in a batch; 0 draws images at random.
    pub images_per_class: usize,
    /// Smallest share of the image's area that a random crop keeps, (0, 1].
    pub min_crop_area: f64,
    /// Largest relative change of brightness and contrast, [0, 1); 0 leaves colours alone.
    pub color_jitter: f64,
    /// Random operations of RandAugment per image; 0 leaves it out.
    pub rand_augment: usize,
    /// Strength of RandAugment's operations, 0 to 10.
    pub rand_augment_strength: f64,
    /// Probability that a rectangle of the image is replaced by noise (random erasing), [0, 1].
    pub random_erasing: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            layout: Layout::Sop,
            train: "Ebay_train.txt".to_owned(),
            test: "Ebay_test.txt".to_owned(),
            train_share: 0.5,
            validation_share: 0.1,
            strict_counts: false,
            on_bad_image: BadImage::Error,
            image_size: 224,
            resize_short: 256,
            scale: None,
            batch_size: 120,
            images_per_class: 0,
            min_crop_area: 0.08,
            color_jitter: 0.0,
            rand_augment: 0,
            rand_augment_strength: 5.0,
            random_erasing: 0.0,
        }
    }
}

impl DataConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        positive("data.batch_size", self.batch_size)?;
        positive("data.image_size", self.image_size as usize)?;
        if self.resize_short < self.image_size {
            return Err(format!(
                "data.resize_short ({}) is smaller than data.image_size ({})",
                self.resize_short, self.image_size
            ));
        }
        within("data.min_crop_area", self.min_crop_area, f64::MIN_POSITIVE, 1.0)?;
        within("data.color_jitter", self.color_jitter, 0.0, 1.0 - f64::EPSILON)?;
        within("data.train_share", self.train_share, f64::MIN_POSITIVE, 1.0 - f64::EPSILON)?;
        within("data.validation_share", self.validation_share, f64::MIN_POSITIVE, 0.9)?;
        within("data.rand_augment_strength", self.rand_augment_strength, 0.0, 10.0)?;
        within("data.random_erasing", self.random_erasing, 0.0, 1.0)?;
        if self.images_per_class > 0 && !self.batch_size.is_multiple_of(self.images_per_class) {
            return Err(format!(
                "data.batch_size ({}) is not a multiple of data.images_per_class ({})",
                self.batch_size, self.images_per_class
            ));
        }
        Ok(())
    }
}
