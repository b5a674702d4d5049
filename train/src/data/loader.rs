//! Reads, decodes and augments batches on worker threads, ahead of the training loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use dfml_models::{DecodeLimits, RgbImage8, Transform};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{Augment, Dataset, train_crop};
use crate::config::BadImage;
use crate::error::TrainError;

/// Batches that are prepared ahead.
const PREFETCH: usize = 3;

/// One batch of augmented images.
#[derive(Debug)]
pub struct Batch {
    /// Pixels 0-255, `[batch, size, size, 3]`, row major.
    pub pixels: Vec<u8>,
    /// Class of each image.
    pub labels: Vec<i64>,
    /// Index of each image in the data set.
    pub images: Vec<usize>,
    /// Side of the images in pixels.
    pub size: i64,
    /// Images that could not be decoded and were left out.
    pub skipped: Vec<usize>,
}

impl Batch {
    /// Normalised pixels `[batch, 3, size, size]` on `device`, channels last in memory (which libtorch convolves
    /// fastest on CPUs).
    pub fn to_pixels(&self, transform: &Transform, device: Device) -> Tensor {
        let n = self.labels.len() as i64;
        let nhwc = Tensor::from_slice(&self.pixels).view([n, self.size, self.size, 3]);
        normalize(&nhwc.to_device(device), transform)
    }

    /// Labels `[batch]`, int64.
    pub fn to_labels(&self, device: Device) -> Tensor {
        Tensor::from_slice(&self.labels).to_device(device)
    }
}

fn normalize(nhwc: &Tensor, transform: &Transform) -> Tensor {
    let device = nhwc.device();
    let mean = Tensor::from_slice(&transform.mean).to_device(device);
    let std = Tensor::from_slice(&transform.std).to_device(device);
    ((nhwc.to_kind(Kind::Float) - mean) / std).permute([0, 3, 1, 2])
}

/// An iterator over the batches of one epoch, prepared by a thread that runs ahead.
#[derive(Debug)]
pub struct Loader {
    receiver: Receiver<Result<Batch, TrainError>>,
}

/// What the batches of an epoch are made with.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// The augmentation.
    pub augment: Augment,
    /// What to do with an image that cannot be decoded.
    pub on_bad_image: BadImage,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the epoch.
    pub epoch: usize,
}

impl Loader {
    /// Starts preparing `batches` (indices into `dataset`). The augmentation of an image depends on the seed, the epoch, its index
    /// and its place in the batch only: not on which thread draws it, nor on whether the batches before it were drawn.
    pub fn start(dataset: Arc<Dataset>, batches: Vec<Vec<usize>>, options: LoadOptions) -> Self {
        let (sender, receiver) = sync_channel(PREFETCH);
        std::thread::spawn(move || {
            for images in batches {
                let batch = prepare(&dataset, images, &options);
                let failed = batch.is_err();
                // A closed channel means that training stopped: nobody wants more batches.
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        Self { receiver }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.recv().ok()
    }
}

fn prepare(dataset: &Dataset, images: Vec<usize>, options: &LoadOptions) -> Result<Batch, TrainError> {
    let crop = |(position, &image): (usize, &usize)| {
        let path = &dataset.images[image];
        let decoded = read_image(path)?;
        let mut rng = ChaCha8Rng::seed_from_u64(
            options.seed ^ (options.epoch as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        );
        // An image drawn twice into a batch (few images per class) still gets two different crops.
        rng.set_stream(((image as u64) << 16) | position as u64 & 0xFFFF);
        train_crop(&decoded, &options.augment, &mut rng)
            .ok_or_else(|| TrainError::Image { path: path.clone(), reason: "the image is empty".into() })
    };
    let crops: Vec<Result<Vec<u8>, TrainError>> = images.par_iter().enumerate().map(crop).collect();
    let mut batch = Batch {
        pixels: Vec::new(),
        labels: Vec::new(),
        images: Vec::new(),
        size: i64::from(options.augment.size),
        skipped: Vec::new(),
    };
    for (image, crop) in images.into_iter().zip(crops) {
        match crop {
            Ok(pixels) => {
                batch.pixels.extend(pixels);
                batch.labels.push(dataset.labels[image] as i64);
                batch.images.push(image);
            }
            Err(error) if options.on_bad_image == BadImage::Error => return Err(error),
            Err(_) => batch.skipped.push(image),
        }
    }
    Ok(batch)
}

fn read_image(path: &Path) -> Result<RgbImage8, TrainError> {
    let error = |reason: String| TrainError::Image { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|e| error(e.to_string()))?;
    dfml_models::decode(&bytes, &DecodeLimits::default()).map_err(|e| error(e.to_string()))
}

/// Images as the evaluation sees them.
#[derive(Debug)]
pub struct EvalBatch {
    /// Resized and cropped.
    pub images: Vec<RgbImage8>,
    /// Normalised, `[n, 3, crop, crop]`, channels last in memory.
    pub pixels: Tensor,
    /// Which of the paths these are; all of them unless some could not be decoded and were left out.
    pub kept: Vec<usize>,
}

/// Evaluation pixels of `paths`: resized and centre-cropped by `transform`.
///
/// # Errors
/// The first image that cannot be read or decoded, unless bad ones are left out.
pub fn eval_pixels(
    paths: &[PathBuf],
    transform: &Transform,
    on_bad_image: BadImage,
    device: Device,
) -> Result<EvalBatch, TrainError> {
    let decoded: Vec<Result<RgbImage8, TrainError>> =
        paths.par_iter().map(|path| Ok(transform.resize_crop(&read_image(path)?))).collect();
    let (mut images, mut kept) = (Vec::new(), Vec::new());
    for (index, image) in decoded.into_iter().enumerate() {
        match image {
            Ok(image) => {
                images.push(image);
                kept.push(index);
            }
            Err(error) if on_bad_image == BadImage::Error => return Err(error),
            Err(_) => {}
        }
    }
    let pixels: Vec<u8> = images.iter().flat_map(|image| image.data.iter().copied()).collect();
    let (h, w) = (i64::from(transform.crop_height), i64::from(transform.crop_width));
    let nhwc = Tensor::from_slice(&pixels).view([images.len() as i64, h, w, 3]).to_device(device);
    Ok(EvalBatch { images, pixels: normalize(&nhwc, transform), kept })
}
