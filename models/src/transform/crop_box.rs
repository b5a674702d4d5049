//! A part of an image that someone has marked.

use serde::{Deserialize, Serialize};

/// A rectangle of an upright image, in fractions of its size: `left` and `top` from 0, `width` and `height` up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fractions")]
pub struct CropBox {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// A crop box that is not inside the image.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "the crop box (left {left}, top {top}, width {width}, height {height}) does not lie in the image: fractions from 0 to 1, \
     width and height above 0"
)]
pub struct CropBoxError {
    /// As it was given.
    pub left: f64,
    /// As it was given.
    pub top: f64,
    /// As it was given.
    pub width: f64,
    /// As it was given.
    pub height: f64,
}

/// What a caller may write down, checked on the way in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fractions {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl TryFrom<Fractions> for CropBox {
    type Error = CropBoxError;

    fn try_from(f: Fractions) -> Result<CropBox, CropBoxError> {
        CropBox::new(f.left, f.top, f.width, f.height)
    }
}

/// How far a box may reach over the edge, so that fractions that were rounded when written down still fit.
const ROUNDING: f64 = 1e-6;

impl CropBox {
    /// The whole image.
    pub const WHOLE: CropBox = CropBox { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };

    /// A box inside the image.
    ///
    /// # Errors
    /// [`CropBoxError`] if it is empty, reaches out of the image, or holds something that is no number.
    pub fn new(left: f64, top: f64, width: f64, height: f64) -> Result<CropBox, CropBoxError> {
        let inside =
            |start: f64, length: f64| start >= 0.0 && length > 0.0 && start + length <= 1.0 + ROUNDING;
        if inside(left, width) && inside(top, height) {
            Ok(CropBox { left, top, width, height })
        } else {
            Err(CropBoxError { left, top, width, height })
        }
    }

    /// The pixels that it covers, at least one: start and length along x and along y.
    pub(super) fn pixels(&self, width: u32, height: u32) -> [(u32, u32); 2] {
        let span = |start: f64, length: f64, size: u32| {
            let last = size.saturating_sub(1);
            // Casts of fractions in 0..=1 times a size stay in range.
            let first = ((start * f64::from(size)).round() as u32).min(last);
            let end =
                (((start + length) * f64::from(size)).round() as u32).clamp(first + 1, size.max(first + 1));
            (first, end - first)
        };
        [span(self.left, self.width, width), span(self.top, self.height, height)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_lie_in_the_image_and_cover_a_pixel() {
        assert_eq!(CropBox::WHOLE.pixels(640, 480), [(0, 640), (0, 480)]);
        let quarter = CropBox::new(0.5, 0.25, 0.5, 0.25).unwrap();
        assert_eq!(quarter.pixels(640, 480), [(320, 320), (120, 120)]);
        let speck = CropBox::new(0.999_999, 0.0, 1e-9, 1e-9).unwrap();
        assert_eq!(speck.pixels(640, 480), [(639, 1), (0, 1)]);
        assert_eq!(speck.pixels(1, 1), [(0, 1), (0, 1)]);
    }

    #[test]
    fn boxes_outside_are_refused_in_code_and_in_json() {
        for (left, top, width, height) in
            [(-0.1, 0.0, 0.5, 0.5), (0.6, 0.0, 0.5, 0.5), (0.0, 0.0, 0.0, 1.0), (f64::NAN, 0.0, 1.0, 1.0)]
        {
            assert!(CropBox::new(left, top, width, height).is_err(), "{left} {top} {width} {height}");
        }
        let third = 1.0 / 3.0;
        assert!(CropBox::new(2.0 * third, 0.0, third + 1e-9, 1.0).is_ok(), "rounded");
        let read = |text| serde_json::from_str::<CropBox>(text).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"left":0,"top":0,"width":1,"height":1}"#), Ok(CropBox::WHOLE));
        let error = read(r#"{"left":0,"top":0.5,"width":1,"height":1}"#).unwrap_err();
        assert!(error.contains("top 0.5"), "{error}");
    }
}
