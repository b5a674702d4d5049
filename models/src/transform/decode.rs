//! Decoding image files of any origin into 8-bit RGB, within limits.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

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

/// What an image may cost. Checked before memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Largest file in bytes.
    pub max_bytes: usize,
    /// Largest width times height.
    pub max_pixels: u64,
}

impl Default for DecodeLimits {
    /// 32 MiB and 64 million pixels: every phone's photos, and at most about 0.5 GB while decoding.
    fn default() -> DecodeLimits {
        DecodeLimits { max_bytes: 32 << 20, max_pixels: 64_000_000 }
    }
}

/// Why bytes could not be turned into an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes do not begin like any known image format.
    #[error("this is not an image: its content fits no known image format")]
    NotAnImage,
    /// An image format that is recognised but not supported.
    #[error("{format} images are not supported; use JPEG, PNG, WebP, GIF, BMP or TIFF")]
    Unsupported {
        /// The format or the variant of it.
        format: String,
    },
    /// The file ends before the image does.
    #[error("the {format} image is cut off: the file ends before the image does")]
    Truncated {
        /// The format.
        format: &'static str,
    },
    /// The file contradicts its format.
    #[error("the {format} image is damaged: {reason}")]
    Corrupt {
        /// The format.
        format: &'static str,
        /// What the decoder found.
        reason: String,
    },
    /// The file is larger than allowed.
    #[error("the image file has {bytes} bytes; at most {limit} are accepted")]
    TooManyBytes {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The image is larger than allowed.
    #[error("the image has {width}x{height} pixels; at most {limit} pixels are accepted")]
    TooManyPixels {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// Largest width times height.
        limit: u64,
    },
}

impl DecodeError {
    /// A short, fixed word for the kind of failure, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            DecodeError::NotAnImage => "not_an_image",
            DecodeError::Unsupported { .. } => "unsupported",
            DecodeError::Truncated { .. } => "truncated",
            DecodeError::Corrupt { .. } => "corrupt",
            DecodeError::TooManyBytes { .. } => "too_many_bytes",
            DecodeError::TooManyPixels { .. } => "too_many_pixels",
        }
    }
}

/// Decodes an image file, upright, over white.
///
/// The format is found from the content: JPEG (grey, CMYK and progressive too), PNG, WebP, GIF (first frame),
/// BMP, TIFF. The EXIF orientation is applied, transparency is composited over white, 16 bits become 8.
/// Colour profiles are not applied. A file that is cut off or damaged is an error, never a half-grey image.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage8, DecodeError> {
    if bytes.len() > limits.max_bytes {
        return Err(DecodeError::TooManyBytes { bytes: bytes.len(), limit: limits.max_bytes });
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => decode_jpeg(bytes, limits),
        Ok(format) => decode_other(bytes, format, limits),
        Err(_) => Err(unknown_format(bytes)),
    }
}

fn check_pixels(width: u32, height: u32, limits: &DecodeLimits) -> Result<(), DecodeError> {
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(DecodeError::TooManyPixels { width, height, limit: limits.max_pixels });
    }
    Ok(())
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

const JPEG: &str = "JPEG";

/// More scans than any encoder writes; each costs a pass over the whole image, so a small file could take minutes.
const MAX_JPEG_SCANS: usize = 500;

fn decode_jpeg(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage8, DecodeError> {
    // Strict, because the lenient decoder fills what is missing with grey and reports success.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| jpeg_error(&error, bytes))?;
    let info = decoder.info().ok_or_else(|| corrupt(JPEG, "it has no header"))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    check_pixels(width, height, limits)?;
    if count_scans(bytes) > MAX_JPEG_SCANS {
        return Err(corrupt(JPEG, format!("it has more than {MAX_JPEG_SCANS} scans")));
    }
    let data = decoder.decode().map_err(|error| jpeg_error(&error, bytes))?;
    if !has_end(bytes) {
        return Err(DecodeError::Truncated { format: JPEG });
    }
    let image = RgbImage::from_raw(width, height, data)
        .ok_or_else(|| corrupt(JPEG, "the decoder returned another number of pixels than the header says"))?;
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    Ok(upright(DynamicImage::ImageRgb8(image), orientation))
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
fn jpeg_error(error: &DecodeErrors, bytes: &[u8]) -> DecodeError {
    match error {
        DecodeErrors::Unsupported(scheme) => {
            DecodeError::Unsupported { format: format!("{JPEG} ({scheme:?})") }
        }
        _ if !has_end(bytes) => DecodeError::Truncated { format: JPEG },
        DecodeErrors::ExhaustedData => DecodeError::Truncated { format: JPEG },
        _ => corrupt(JPEG, error.to_string()),
    }
}

fn corrupt(format: &'static str, reason: impl Into<String>) -> DecodeError {
    DecodeError::Corrupt { format, reason: reason.into() }
}

fn decode_other(bytes: &[u8], format: ImageFormat, limits: &DecodeLimits) -> Result<RgbImage8, DecodeError> {
    let name = match format {
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        other => return Err(DecodeError::Unsupported { format: format!("{other:?}").to_uppercase() }),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut alloc = image::Limits::default();
    // 16-bit RGBA is the widest pixel; as much again for the decoder's own buffers.
    alloc.max_alloc = Some(limits.max_pixels.saturating_mul(16).saturating_add(1 << 20));
    reader.limits(alloc);
    let mut decoder = reader.into_decoder().map_err(|error| other_error(name, error))?;
    let (width, height) = decoder.dimensions();
    check_pixels(width, height, limits)?;
    if width == 0 || height == 0 {
        return Err(corrupt(name, "it has no pixels"));
    }
    // A damaged EXIF block is no reason to refuse the picture.
    let orientation = decoder.orientation().ok();
    let image = DynamicImage::from_decoder(decoder).map_err(|error| other_error(name, error))?;
    Ok(upright(image, orientation))
}

fn other_error(format: &'static str, error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format }
        }
        ImageError::Unsupported(error) => DecodeError::Unsupported { format: format!("{format} ({error})") },
        error => corrupt(format, error.to_string()),
    }
}

fn upright(mut image: DynamicImage, orientation: Option<Orientation>) -> RgbImage8 {
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    let image = over_white(image);
    RgbImage8 { width: image.width(), height: image.height(), data: image.into_raw() }
}

/// 8-bit RGB, with transparency composited over white.
fn over_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0.map(u32::from);
        image::Rgb([red, green, blue].map(|c| ((c * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}
