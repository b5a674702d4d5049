//! Pictures to measure with, where there are no others: as large as a shop's, as busy as photos, and the same on every
//! machine.

use std::{
    io,
    path::{Path, PathBuf},
};

use image::{ImageEncoder, Rgb, RgbImage, codecs::jpeg::JpegEncoder};

/// Width and height in pixels, as shops send them.
const SIZES: [(u32, u32); 4] = [(500, 375), (375, 500), (500, 500), (640, 480)];
const QUALITY: u8 = 85;

/// Writes `count` JPEG files into `folder` and returns their paths.
///
/// # Errors
/// A file that cannot be written.
pub fn write_pictures(folder: &Path, count: usize) -> io::Result<Vec<PathBuf>> {
    (0..count)
        .map(|number| {
            let path = folder.join(format!("{number:04}.jpg"));
            let image = picture(number as u32);
            let mut bytes = Vec::new();
            JpegEncoder::new_with_quality(&mut bytes, QUALITY)
                .write_image(&image, image.width(), image.height(), image::ExtendedColorType::Rgb8)
                .map_err(io::Error::other)?;
            fs_err::write(&path, bytes)?;
            Ok(path)
        })
        .collect()
}

/// An object before a soft background, with a texture: about 1.5 bits a pixel as JPEG, like a product photo.
fn picture(number: u32) -> RgbImage {
    let (width, height) = SIZES[number as usize % SIZES.len()];
    let (cx, cy) = (width as f32 * 0.5, height as f32 * 0.55);
    let radius = 0.35 * width.min(height) as f32;
    let phase = number as f32;
    RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = ((x as f32 - cx) / radius, (y as f32 - cy) / radius);
        let inside = dx.abs().powf(2.5) + dy.abs().powf(2.5) < 1.0;
        let grain = (noise(x, y, number) - 0.5) * if inside { 36.0 } else { 8.0 };
        let base = if inside {
            let weave = ((x as f32 * 0.35 + phase).sin() * (y as f32 * 0.31 - phase).cos()) * 40.0;
            [110.0 + 60.0 * dx + weave, 95.0 + 50.0 * dy + weave, 80.0 + 30.0 * (phase * 0.7).sin()]
        } else {
            let soft = 200.0 + 40.0 * (y as f32 / height as f32);
            [soft, soft - 4.0, soft - 10.0]
        };
        Rgb(base.map(|value| (value + grain).clamp(0.0, 255.0) as u8))
    })
}

/// A number from 0 to 1 that looks random.
fn noise(x: u32, y: u32, seed: u32) -> f32 {
    let mut state =
        x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77) ^ seed.wrapping_mul(0xC2B2_AE3D);
    state ^= state >> 15;
    state = state.wrapping_mul(0x2C1B_3C6D);
    state ^= state >> 12;
    (state >> 8) as f32 / (1 << 24) as f32
}
