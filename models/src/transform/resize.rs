//! Resizing and cropping in one step.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::{Interpolation, RgbImage8, Transform};

pub(super) fn resize_crop(transform: &Transform, image: &RgbImage8) -> RgbImage8 {
    let (crop_w, crop_h) = (transform.crop_width, transform.crop_height);
    let (resized_w, resized_h) = resized_size(transform, image.width, image.height);

    // The filter reads beyond the box that it is given, so this equals resizing everything and then cropping.
    let (scale_x, scale_y) =
        (f64::from(image.width) / f64::from(resized_w), f64::from(image.height) / f64::from(resized_h));
    let (left, width) = span(image.width, scale_x, centre_offset(resized_w, crop_w), crop_w);
    let (top, height) = span(image.height, scale_y, centre_offset(resized_h, crop_h), crop_h);

    let algorithm = match transform.interpolation {
        Interpolation::BilinearAntialias => ResizeAlg::Convolution(FilterType::Bilinear),
    };
    let options = ResizeOptions::new().resize_alg(algorithm).crop(left, top, width, height);
    let source = ImageRef::new(image.width, image.height, &image.data, PixelType::U8x3)
        .expect("an RgbImage8 holds as many bytes as its size says");
    let mut target = Image::new(crop_w, crop_h, PixelType::U8x3);
    Resizer::new()
        .resize(&source, &mut target, &options)
        .expect("the pixel types agree and the box was clamped to the image");
    RgbImage8 { width: crop_w, height: crop_h, data: target.into_vec() }
}

/// Size of the whole resized image, of which the crop is the centre.
///
/// The short side becomes `resize_short` (or as large as the crop, if a transform was not validated).
fn resized_size(transform: &Transform, width: u32, height: u32) -> (u32, u32) {
    let short = transform.resize_short.max(transform.crop_width).max(transform.crop_height);
    let long = |long: u32, other: u32| {
        let exact = u64::from(short) * u64::from(long) / u64::from(other.max(1));
        u32::try_from(exact).unwrap_or(u32::MAX)
    };
    if width <= height { (short, long(height, width)) } else { (long(width, height), short) }
}

/// Pixels before a centred crop; a half is rounded to the even neighbour, as torchvision does.
fn centre_offset(size: u32, crop: u32) -> u32 {
    let twice = size.saturating_sub(crop);
    let half = twice / 2;
    if twice.is_multiple_of(2) || half.is_multiple_of(2) { half } else { half + 1 }
}

/// Start and length of the source pixels that a crop shows, kept inside the image against rounding.
fn span(size: u32, scale: f64, offset: u32, crop: u32) -> (f64, f64) {
    let size = f64::from(size);
    let start = (f64::from(offset) * scale).min(size);
    (start, (f64::from(crop) * scale).min(size - start))
}
