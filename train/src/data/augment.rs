//! Training augmentation: RandomResizedCrop, horizontal flip, brightness and contrast; RandAugment and random erasing if asked for.

use dfml_models::{Region, RgbImage8};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::rand_augment::{erase, rand_augment};
use crate::config::DataConfig;

/// Settings of the training augmentation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augment {
    /// Side of the square result, in pixels.
    pub size: u32,
    /// Smallest share of the area that a crop keeps, (0, 1].
    pub min_area: f64,
    /// Largest relative change of brightness and contrast, [0, 1).
    pub color_jitter: f64,
    /// Random operations of RandAugment.
    pub rand_augment: usize,
    /// Their strength, 0 to 10.
    pub rand_augment_strength: f64,
    /// Probability of random erasing, [0, 1].
    pub random_erasing: f64,
}

impl Augment {
    /// The augmentation of a configuration.
    pub fn new(config: &DataConfig) -> Self {
        Self {
            size: config.image_size,
            min_area: config.min_crop_area,
            color_jitter: config.color_jitter,
            rand_augment: config.rand_augment,
            rand_augment_strength: config.rand_augment_strength,
            random_erasing: config.random_erasing,
        }
    }
}

/// A random crop of `image` (area share uniform in `min_area..1`, aspect ratio log-uniform in 3/4..4/3; the centre
/// square after ten misses: torchvision's RandomResizedCrop), resized to a square, flipped with
/// probability one half, with random brightness and contrast, RandAugment and random erasing as far as they are asked for. `None` if the
/// image is empty.
pub fn train_crop(image: &RgbImage8, augment: &Augment, rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    if image.width == 0 || image.height == 0 {
        return None;
    }
    let region = random_crop(image.width, image.height, augment.min_area, rng);
    let mut pixels = image.resize_region(region, augment.size, augment.size).data;
    if rng.random_bool(0.5) {
        flip(&mut pixels, augment.size as usize);
    }
    if augment.color_jitter > 0.0 {
        jitter(&mut pixels, augment.color_jitter, rng);
    }
    rand_augment(
        &mut pixels,
        augment.size as usize,
        augment.rand_augment,
        augment.rand_augment_strength,
        rng,
    );
    if augment.random_erasing > 0.0 && rng.random_bool(augment.random_erasing) {
        erase(&mut pixels, augment.size as usize, rng);
    }
    Some(pixels)
}

/// A region of whole pixels inside an image of `width` x `height` pixels (each at least 1).
fn random_crop(width: u32, height: u32, min_area: f64, rng: &mut ChaCha8Rng) -> Region {
    let region = |left: u32, top: u32, width: u32, height: u32| Region {
        left: left.into(),
        top: top.into(),
        width: width.into(),
        height: height.into(),
    };
    let area = f64::from(width) * f64::from(height);
    let log_ratio = (3f64 / 4.0).ln()..=(4f64 / 3.0).ln();
    for _ in 0..10 {
        let target = area * rng.random_range(min_area..=1.0);
        let ratio = rng.random_range(log_ratio.clone()).exp();
        let (w, h) = ((target * ratio).sqrt().round() as u32, (target / ratio).sqrt().round() as u32);
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            return region(rng.random_range(0..=width - w), rng.random_range(0..=height - h), w, h);
        }
    }
    let side = width.min(height);
    region((width - side) / 2, (height - side) / 2, side, side)
}

fn flip(pixels: &mut [u8], size: usize) {
    for row in pixels.chunks_exact_mut(size * 3) {
        for x in 0..size / 2 {
            for c in 0..3 {
                row.swap(x * 3 + c, (size - 1 - x) * 3 + c);
            }
        }
    }
}

/// `contrast * (v - 128) + 128 * brightness`, both factors uniform in `1 ± amount`.
fn jitter(pixels: &mut [u8], amount: f64, rng: &mut ChaCha8Rng) {
    let contrast = rng.random_range(1.0 - amount..=1.0 + amount);
    let brightness = rng.random_range(1.0 - amount..=1.0 + amount);
    let mut table = [0u8; 256];
    for (value, slot) in table.iter_mut().enumerate() {
        let v = contrast * (value as f64 - 128.0) + 128.0 * brightness;
        *slot = v.round().clamp(0.0, 255.0) as u8;
    }
    pixels.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn crops_stay_inside_and_keep_the_area() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..2000 {
            let crop = random_crop(90, 40, 0.3, &mut rng);
            assert!(crop.left + crop.width <= 90.0 && crop.top + crop.height <= 40.0, "{crop:?}");
            assert!(crop.width * crop.height >= 0.28 * 90.0 * 40.0, "{crop:?}");
        }
    }

    #[test]
    fn flip_mirrors_rows() {
        let mut pixels: Vec<u8> = (0..27).collect();
        flip(&mut pixels, 3);
        assert_eq!(&pixels[..9], [6, 7, 8, 3, 4, 5, 0, 1, 2]);
    }

    #[test]
    fn same_seed_same_crop() {
        let data: Vec<u8> = (0..60 * 40 * 3).map(|i| (i % 251) as u8).collect();
        let image = RgbImage8 { width: 60, height: 40, data };
        let config =
            DataConfig { image_size: 32, min_crop_area: 0.2, color_jitter: 0.3, ..DataConfig::default() };
        let augment = Augment::new(&config);
        let crop = |seed| train_crop(&image, &augment, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
        assert_eq!(crop(5), crop(5));
        assert_ne!(crop(5), crop(6));
        assert_eq!(crop(5).len(), 32 * 32 * 3);
    }
}
