//! Decoding image files of any origin into 8-bit RGB, within limits.

mod error;
mod frames;
mod jpeg;
mod jpeg_segments;
mod other;
mod tiff_directory;
mod to_rgb8;
mod webp;

use image::ImageFormat;

pub use error::{DecodeError, DecodeLimits};

use super::picture::{Picture, RgbImage8};

impl Picture {
    /// Decodes an image file over white.
    ///
    /// The format is found from the content: JPEG (grey, CMYK and progressive too), PNG, WebP, GIF (first frame),
    /// BMP, TIFF. The EXIF orientation is noted, transparency is composited over white, 16 bits become 8.
    /// Colour profiles are not applied. A file that is cut off or damaged is an error, never a half-grey image.
    ///
    /// # Errors
    /// [`DecodeError`]. The limits are checked before memory is taken for what they bound.
    pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, DecodeError> {
        limits.check_bytes(bytes.len())?;
        match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, limits),
            Ok(format) => other::decode(bytes, format, limits),
            Err(_) => Err(unknown_format(bytes)),
        }
    }
}

/// Decodes an image file over white and turns it upright; see [`Picture::decode`].
///
/// # Errors
/// [`DecodeError`].
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage8, DecodeError> {
    Picture::decode(bytes, limits).map(Picture::into_upright)
}

/// Formats that people send and that the decoders here do not know, so that they get their name back.
fn unknown_format(bytes: &[u8]) -> DecodeError {
    let brand = (bytes.get(4..8) == Some(b"ftyp")).then(|| bytes.get(8..12)).flatten();
    let format = match brand {
        Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"mif1" | b"msf1") => "HEIC",
        Some(b"avif" | b"avis") => "AVIF",
        _ if bytes.starts_with(b"\xFF\x0A") || bytes.starts_with(b"\0\0\0\x0CJXL ") => "JPEG XL",
        _ if bytes.starts_with(b"%PDF") => "PDF",
        _ if bytes.trim_ascii_start().starts_with(b"<svg") => "SVG",
        _ => return DecodeError::NotAnImage,
    };
    DecodeError::Unsupported { format: format.to_owned() }
}
