//! Resizing and cropping in one step.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::{Interpolation, RgbImage8, Transform};

pub(super) fn resize_crop(transform: &Transform, image: &RgbImage8) -> RgbImage8 {
    let (crop_w, crop_h) = (transform.crop_width, transform.crop_height);
    let (resized_w, resized_h) = resized_size(transform, image.width, image.height);

    // The filter reads beyond the box that it is given, so this equals resizing everything and then cropping.
    let (scale_x, scale_y) =
        (f64::from(image.width) / f64::from(resized_w), f64::from(image.height) / f64::from(resized_h));
    let (left, width) = span(image.width, scale_x, centre_offset(resized_w, crop_w), crop_w);
    let (top, height) = span(image.height, scale_y, centre_offset(resized_h, crop_h), crop_h);

    match transform.interpolation {
        Interpolation::BilinearAntialias => {
            image.resize_region(Region { left, top, width, height }, crop_w, crop_h)
        }
    }
}

/// A rectangle of an image in pixels; fractions are allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// Left edge.
    pub left: f64,
    /// Top edge.
    pub top: f64,
    /// Extent to the right.
    pub width: f64,
    /// Extent downwards.
    pub height: f64,
}

impl RgbImage8 {
    /// Resizes a region to `width` x `height` pixels: bilinear, the filter widened when shrinking, as Pillow does it.
    ///
    /// The typed call compiles the resizer for this one pixel format; the untyped one compiles it for all of them,
    /// which takes minutes.
    ///
    /// # Panics
    /// If the region is empty or reaches out of the image, or the image is not as large as it says: mistakes of the
    /// caller, not of any input.
    pub fn resize_region(&self, region: Region, width: u32, height: u32) -> RgbImage8 {
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
            region.left,
            region.top,
            region.width,
            region.height,
        );
        let source = TypedImageRef::<U8x3>::from_buffer(self.width, self.height, &self.data)
            .expect("an RgbImage8 holds as many bytes as its size says");
        let mut data = vec![0; width as usize * height as usize * 3];
        let mut target = TypedImage::<U8x3>::from_buffer(width, height, &mut data)
            .expect("the buffer was made for this size");
        Resizer::new()
            .resize_typed(&source, &mut target, &options)
            .expect("the caller keeps the region inside the image");
        RgbImage8 { width, height, data }
    }
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
