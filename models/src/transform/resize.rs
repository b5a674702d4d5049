//! Resizing and cropping in one step.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use image::metadata::Orientation;

use super::picture::{Turn, turned};
use super::{CropBox, Interpolation, RgbImage8, Transform};

/// The transform's crop of the part that `crop` marks of a stored image that is to be turned.
///
/// The stored pixels are resized and the small result is turned upright: the same as turning first, up to the rounding of
/// the two passes of the resizer, and much cheaper.
pub(super) fn resize_crop(
    transform: &Transform,
    stored: &RgbImage8,
    orientation: Orientation,
    crop: CropBox,
) -> RgbImage8 {
    let turn = Turn::of(orientation);
    let (upright_w, upright_h) = turn.size((stored.width, stored.height));
    let [(left, width), (top, height)] = crop.pixels(upright_w, upright_h);
    let (crop_w, crop_h) = (transform.crop_width, transform.crop_height);
    let (resized_w, resized_h) = resized_size(transform, width, height);

    // The filter reads beyond the box that it is given, so this equals resizing everything and then cropping.
    let (scale_x, scale_y) =
        (f64::from(width) / f64::from(resized_w), f64::from(height) / f64::from(resized_h));
    let shown = [
        span(width, scale_x, centre_offset(resized_w, crop_w), crop_w),
        span(height, scale_y, centre_offset(resized_h, crop_h), crop_h),
    ];

    let marked = [(left, width), (top, height)].map(|(start, length)| (f64::from(start), f64::from(length)));
    let marked = turn.spans(marked, (f64::from(stored.width), f64::from(stored.height)));
    // Whole numbers went in, and so come out.
    let [(left, width), (top, height)] = marked.map(|(start, length)| (start as u32, length as u32));
    let [x, y] = turn.spans(shown, (f64::from(width), f64::from(height)));
    let region = Region { left: x.0, top: y.0, width: x.1, height: y.1 };
    let (target_w, target_h) = turn.size((crop_w, crop_h));
    match transform.interpolation {
        Interpolation::BilinearAntialias => {
            let part = stored.resize_part((left, top, width, height), region, target_w, target_h);
            turned(part, orientation)
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
    /// # Panics
    /// If the region is empty or reaches out of the image, or the image is not as large as it says: mistakes of the
    /// caller, not of any input.
    pub fn resize_region(&self, region: Region, width: u32, height: u32) -> RgbImage8 {
        self.resize_part((0, 0, self.width, self.height), region, width, height)
    }

    /// The same within a part of the image (left, top, width, height), whose surroundings do not show.
    ///
    /// The typed call compiles the resizer for this one pixel format; the untyped one compiles it for all of them,
    /// which takes minutes.
    fn resize_part(&self, part: (u32, u32, u32, u32), region: Region, width: u32, height: u32) -> RgbImage8 {
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
            region.left,
            region.top,
            region.width,
            region.height,
        );
        let whole = TypedImageRef::<U8x3>::from_buffer(self.width, self.height, &self.data)
            .expect("an RgbImage8 holds as many bytes as its size says");
        let source = TypedCroppedImage::new(whole, part.0, part.1, part.2, part.3)
            .expect("a crop box covers pixels of the image");
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
