//! A decoded image and the way up that its file asks for.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

/// An image of 8-bit red, green and blue, row by row, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage8 {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `3 * width * height` bytes.
    pub data: Vec<u8>,
}

impl RgbImage8 {
    /// An image of the given size.
    ///
    /// # Panics
    /// If `data` does not hold exactly `3 * width * height` bytes: a mistake of the caller.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> RgbImage8 {
        assert_eq!(
            data.len(),
            3 * width as usize * height as usize,
            "the data does not fit {width}x{height}"
        );
        RgbImage8 { width, height, data }
    }
}

/// An image as its file stores it, with the orientation still to be applied: a phone's photo need not be turned as a
/// whole when only a small copy of it is wanted. Sizes and boxes are those of the upright image.
#[derive(Clone, Debug)]
pub struct Picture {
    stored: RgbImage8,
    orientation: Orientation,
}

impl Picture {
    pub(super) fn new(stored: RgbImage8, orientation: Option<Orientation>) -> Picture {
        Picture { stored, orientation: orientation.unwrap_or(Orientation::NoTransforms) }
    }

    /// Width in pixels, upright.
    pub fn width(&self) -> u32 {
        Turn::of(self.orientation).size((self.stored.width, self.stored.height)).0
    }

    /// Height in pixels, upright.
    pub fn height(&self) -> u32 {
        Turn::of(self.orientation).size((self.stored.width, self.stored.height)).1
    }

    /// The image as it is meant to be seen. Takes its size in memory once more if it has to be turned by a quarter.
    pub fn into_upright(self) -> RgbImage8 {
        turned(self.stored, self.orientation)
    }

    /// The image as it is stored, and what has to be done to it.
    pub(super) fn parts(&self) -> (&RgbImage8, Orientation) {
        (&self.stored, self.orientation)
    }
}

/// Applies an orientation.
pub(super) fn turned(image: RgbImage8, orientation: Orientation) -> RgbImage8 {
    if orientation == Orientation::NoTransforms {
        return image;
    }
    let RgbImage8 { width, height, data } = image;
    let image =
        RgbImage::from_raw(width, height, data).expect("an RgbImage8 holds as many bytes as its size says");
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    RgbImage8 { width: image.width(), height: image.height(), data: image.into_raw() }
}

/// How boxes of the upright image lie in the stored one: axes exchanged first, then mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    swaps: bool,
    mirrors_x: bool,
    mirrors_y: bool,
}

impl Turn {
    pub(super) fn of(orientation: Orientation) -> Turn {
        let (swaps, mirrors_x, mirrors_y) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (false, true, false),
            Orientation::FlipVertical => (false, false, true),
            Orientation::Rotate180 => (false, true, true),
            Orientation::Rotate90FlipH => (true, false, false),
            Orientation::Rotate90 => (true, false, true),
            Orientation::Rotate270 => (true, true, false),
            Orientation::Rotate270FlipH => (true, true, true),
        };
        Turn { swaps, mirrors_x, mirrors_y }
    }

    /// Width and height, exchanged if need be.
    pub(super) fn size<T>(self, (width, height): (T, T)) -> (T, T) {
        if self.swaps { (height, width) } else { (width, height) }
    }

    /// Start and length along x and along y, of a box of the upright image, as they are in the stored one of `size`.
    pub(super) fn spans(self, [x, y]: [(f64, f64); 2], (width, height): (f64, f64)) -> [(f64, f64); 2] {
        let [x, y] = if self.swaps { [y, x] } else { [x, y] };
        let mirror = |(start, length): (f64, f64), size: f64, mirrors: bool| {
            // Rounding must not take the box out of the image.
            let start = if mirrors { (size - start - length).max(0.0) } else { start };
            (start, length.min(size - start))
        };
        [mirror(x, width, self.mirrors_x), mirror(y, height, self.mirrors_y)]
    }
}
