//! From the bytes of an image file to the numbers that a network takes.

mod crop_box;
mod decode;
mod picture;
mod resize;

use image::metadata::Orientation;
use serde::{Deserialize, Serialize};

pub use crop_box::{CropBox, CropBoxError};
pub use decode::{DecodeError, DecodeLimits, decode};
pub use picture::{Picture, RgbImage8};
pub use resize::Region;

/// How an image is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Bilinear with the filter widened when shrinking, as Pillow does it.
    BilinearAntialias,
}

/// The preprocessing that a model was trained with: resize, crop the centre, normalise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transform {
    /// Pixels that the shorter side is resized to; the longer keeps the aspect ratio, rounded down.
    pub resize_short: u32,
    /// Height in pixels of the centre crop, and of the network's input.
    pub crop_height: u32,
    /// Width in pixels of the centre crop, and of the network's input.
    pub crop_width: u32,
    /// How to resize.
    pub interpolation: Interpolation,
    /// Subtracted from each channel (red, green, blue), on the scale 0 to 255.
    pub mean: [f32; 3],
    /// Each channel is divided by this after the subtraction, on the scale 0 to 255.
    pub std: [f32; 3],
}

/// The scale of pixel values that pretrained weights expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PixelScale {
    /// ImageNet's mean and standard deviation per channel: DeiT, ResNet.
    Imagenet,
    /// From -1 to 1, `(x - 127.5) / 127.5`: the ViTs of timm.
    Half,
    /// `(x - 127) / 128`: EfficientNet-Lite.
    Lite,
}

impl PixelScale {
    /// Mean and standard deviation of each channel on the scale 0 to 255.
    pub fn mean_std(self) -> ([f32; 3], [f32; 3]) {
        match self {
            PixelScale::Imagenet => {
                ([0.485 * 255.0, 0.456 * 255.0, 0.406 * 255.0], [0.229 * 255.0, 0.224 * 255.0, 0.225 * 255.0])
            }
            PixelScale::Half => ([127.5; 3], [127.5; 3]),
            PixelScale::Lite => ([127.0; 3], [128.0; 3]),
        }
    }
}

/// A transform whose numbers do not make sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the image transform does not work out: {reason}")]
pub struct TransformError {
    /// Which numbers are wrong.
    pub reason: String,
}

/// Largest side of a network's input that is accepted, in pixels.
const MAX_SIDE: u32 = 4096;

impl Transform {
    /// The usual evaluation transform: the short side resized to `resize_short`, a square crop of `crop` pixels.
    pub fn square(resize_short: u32, crop: u32, scale: PixelScale) -> Transform {
        let (mean, std) = scale.mean_std();
        Transform {
            resize_short,
            crop_height: crop,
            crop_width: crop,
            interpolation: Interpolation::BilinearAntialias,
            mean,
            std,
        }
    }

    /// EfficientNet-Lite's own: pixels become (x - 127) / 128. Square crop of `crop` pixels, the short side
    /// resized to 8/7 of it (256 for 224).
    pub fn efficientnet_lite(crop: u32) -> Transform {
        Transform::square(crop + crop / 7, crop, PixelScale::Lite)
    }

    /// The usual evaluation transform on ImageNet: short side `resize_short`, square crop, ImageNet's mean and
    /// standard deviation.
    pub fn imagenet(resize_short: u32, crop: u32) -> Transform {
        Transform::square(resize_short, crop, PixelScale::Imagenet)
    }

    /// Checks that the numbers make sense: sides from 1 to 4096, a crop no larger than the resized image,
    /// finite means, positive standard deviations.
    pub fn validate(&self) -> Result<(), TransformError> {
        let fail = |reason: String| Err(TransformError { reason });
        let sides = [
            ("resize_short", self.resize_short),
            ("crop_height", self.crop_height),
            ("crop_width", self.crop_width),
        ];
        for (name, side) in sides {
            if side == 0 || side > MAX_SIDE {
                return fail(format!("{name} is {side}; it must be from 1 to {MAX_SIDE} pixels"));
            }
        }
        if self.crop_height.max(self.crop_width) > self.resize_short {
            return fail(format!(
                "the crop of {}x{} pixels is larger than resize_short, {}",
                self.crop_width, self.crop_height, self.resize_short
            ));
        }
        if !self.mean.iter().all(|x| x.is_finite()) {
            return fail(format!("mean is {:?}", self.mean));
        }
        if !self.std.iter().all(|x| x.is_finite() && *x > 0.0) {
            return fail(format!("std is {:?}; it must be positive", self.std));
        }
        Ok(())
    }

    /// Number of values of one normalised image: 3 * height * width.
    pub fn output_len(&self) -> usize {
        3 * self.crop_height as usize * self.crop_width as usize
    }

    /// Resizes and crops the centre: the result has exactly the crop's size.
    ///
    /// Only the pixels that the crop shows are computed, so a very long, thin image costs no more.
    pub fn resize_crop(&self, image: &RgbImage8) -> RgbImage8 {
        resize::resize_crop(self, image, Orientation::NoTransforms, CropBox::WHOLE)
    }

    /// The same for a part of a picture, as if the rest of it were not there; the result is upright.
    pub fn resize_crop_of(&self, picture: &Picture, part: CropBox) -> RgbImage8 {
        let (stored, orientation) = picture.parts();
        resize::resize_crop(self, stored, orientation, part)
    }

    /// Writes the normalised pixels of an image of the crop's size: `[3, height, width]`, red first.
    ///
    /// # Panics
    /// If the image or `out` does not have the size of the crop: a mistake of the caller, not of any input.
    pub fn normalize_into(&self, image: &RgbImage8, out: &mut [f32]) {
        assert_eq!((image.width, image.height), (self.crop_width, self.crop_height), "not the crop's size");
        assert_eq!(out.len(), self.output_len(), "the output does not fit the crop");
        let plane = out.len() / 3;
        for (channel, plane) in out.chunks_exact_mut(plane).enumerate() {
            let table: [f32; 256] =
                std::array::from_fn(|x| (x as f32 - self.mean[channel]) / self.std[channel]);
            for (value, pixel) in plane.iter_mut().zip(image.data.as_chunks::<3>().0) {
                *value = table[usize::from(pixel[channel])];
            }
        }
    }

    /// From a part of a decoded picture to the network's input: resizes, crops, normalises.
    ///
    /// # Panics
    /// If `out` does not hold [`Transform::output_len`] values.
    pub fn prepare_into(&self, picture: &Picture, part: CropBox, out: &mut [f32]) {
        self.normalize_into(&self.resize_crop_of(picture, part), out);
    }

    /// Decodes, resizes, crops and normalises: the whole way from a file's bytes to the network's input.
    ///
    /// # Errors
    /// [`DecodeError`].
    ///
    /// # Panics
    /// If `out` does not hold [`Transform::output_len`] values.
    pub fn apply_into(
        &self,
        bytes: &[u8],
        limits: &DecodeLimits,
        out: &mut [f32],
    ) -> Result<(), DecodeError> {
        self.prepare_into(&Picture::decode(bytes, limits)?, CropBox::WHOLE, out);
        Ok(())
    }
}
