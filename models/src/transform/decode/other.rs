//! Every format but JPEG, through the image crate.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::error::corrupt;
use super::{DecodeError, DecodeLimits, Picture, RgbImage8, frames, tiff_directory, to_rgb8, webp};

pub(super) fn decode(
    bytes: &[u8],
    format: ImageFormat,
    limits: &DecodeLimits,
) -> Result<Picture, DecodeError> {
    let name = match format {
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        other => return Err(DecodeError::Unsupported { format: format!("{other:?}").to_uppercase() }),
    };
    if frames::are_more_than(limits.max_frames, bytes, format) {
        return Err(DecodeError::TooManyFrames { limit: limits.max_frames });
    }
    let lists = if format == ImageFormat::Tiff { tiff_directory::memory(bytes).unwrap_or(0) } else { 0 };
    limits.memory_after(lists, name)?;
    let failed = |error| failure(name, limits, error);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // While the header is read. A quarter, because buffers that grow are copied, and the limit is on what they hold.
    reader.limits(allocation(limits.max_memory / 4));
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    limits.check_pixels(width, height)?;
    if width == 0 || height == 0 {
        return Err(corrupt(name, "it has no pixels"));
    }
    let colour = decoder.color_type();
    let pixels = u64::from(width) * u64::from(height);
    let held_back = if format == ImageFormat::WebP { webp::memory(bytes)? } else { 0 };
    let buffers = pixels * (u64::from(colour.bytes_per_pixel()) + grown(colour)) + held_back;
    let taken = buffers.saturating_add(lists).saturating_add(ROWS * u64::from(width) + TABLES);
    decoder.set_limits(allocation(limits.memory_after(taken, name)?)).map_err(failed)?;
    // A damaged EXIF block is no reason to refuse the picture.
    let orientation = decoder.orientation().ok();
    let mut data = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut data).map_err(failed)?;
    let data = to_rgb8::convert(colour, data)
        .ok_or_else(|| DecodeError::Unsupported { format: format!("{name} ({colour:?})") })?;
    Ok(Picture::new(RgbImage8 { width, height, data }, orientation))
}

/// Bytes that every decoder takes for a few rows, per pixel of one, and for windows and tables.
const ROWS: u64 = 64;
const TABLES: u64 = 512 << 10;

fn allocation(max_alloc: u64) -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(max_alloc);
    limits
}

/// Bytes per pixel of the buffer that a conversion to RGB needs beside the decoded one.
fn grown(colour: ColorType) -> u64 {
    if colour.bytes_per_pixel() < 3 { 3 } else { 0 }
}

fn failure(format: &'static str, limits: &DecodeLimits, error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format }
        }
        ImageError::Unsupported(error) => DecodeError::Unsupported { format: format!("{format} ({error})") },
        ImageError::Limits(_) => DecodeError::TooMuchMemory { format, limit: limits.max_memory },
        error => corrupt(format, error.to_string()),
    }
}
