//! JPEG: strictly, because the lenient decoder fills what is missing with grey and reports success.

use image::metadata::Orientation;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::error::corrupt;
use super::jpeg_segments::{Frame, without_stray_bytes};
use super::{DecodeError, DecodeLimits, Picture, RgbImage8};

const JPEG: &str = "JPEG";

/// More scans than any encoder writes; each costs a pass over the whole image, so a small file could take minutes.
const MAX_SCANS: usize = 500;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, DecodeError> {
    if let Some(frame) = Frame::of(bytes) {
        limits.check_pixels(frame.width, frame.height)?;
        // The decoder keeps copies of what describes the image (EXIF, colour profile).
        limits.memory_after(frame.memory().saturating_add(bytes.len() as u64), JPEG)?;
    }
    if count_scans(bytes) > MAX_SCANS {
        return Err(corrupt(JPEG, format!("it has more than {MAX_SCANS} scans")));
    }
    match decode_strictly(bytes, limits) {
        // Bytes between the segments are the one thing that the strict decoder refuses and that hides no pixels.
        Err(DecodeError::Corrupt { .. }) if let Some(repaired) = without_stray_bytes(bytes) => {
            decode_strictly(&repaired, limits)
        }
        decoded => decoded,
    }
}

fn decode_strictly(bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, DecodeError> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| failure(&error, bytes))?;
    let info = decoder.info().ok_or_else(|| corrupt(JPEG, "it has no header"))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    // Again, in case that the decoder read another header than we did.
    limits.check_pixels(width, height)?;
    let data = decoder.decode().map_err(|error| failure(&error, bytes))?;
    if !has_end(bytes) {
        return Err(DecodeError::Truncated { format: JPEG });
    }
    if data.len() as u64 != 3 * u64::from(width) * u64::from(height) {
        return Err(corrupt(JPEG, "the decoder returned another number of pixels than the header says"));
    }
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    Ok(Picture::new(RgbImage8 { width, height, data }, orientation))
}

/// How many scans follow; inside compressed data the first byte of a marker is always escaped.
fn count_scans(bytes: &[u8]) -> usize {
    let next = bytes.get(1..).unwrap_or_default();
    // A plain loop over two slices, which the compiler vectorises: this looks at every byte of every photo.
    bytes.iter().zip(next).filter(|(byte, next)| **byte == 0xFF && **next == 0xDA).count()
}

/// Whether there is an end marker; sought from the end, where it is.
fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).rev().any(|pair| pair == [0xFF, 0xD9])
}

/// A decoder that fails on a file without end marker has run out of data.
fn failure(error: &DecodeErrors, bytes: &[u8]) -> DecodeError {
    match error {
        DecodeErrors::Unsupported(scheme) => {
            DecodeError::Unsupported { format: format!("{JPEG} ({scheme:?})") }
        }
        _ if !has_end(bytes) => DecodeError::Truncated { format: JPEG },
        DecodeErrors::ExhaustedData => DecodeError::Truncated { format: JPEG },
        _ => corrupt(JPEG, error.to_string()),
    }
}
