//! Decoding: every kind of image that people send, and everything that is not quite one.

use std::io::Cursor;
use std::path::Path;

use dfml_models::{DecodeError, DecodeLimits, RgbImage8, decode};
use image::{DynamicImage, ImageFormat};

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images").join(name))
        .expect("a test image")
}

fn ok(bytes: &[u8]) -> RgbImage8 {
    decode(bytes, &DecodeLimits::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn failure(bytes: &[u8]) -> DecodeError {
    decode(bytes, &DecodeLimits::default()).expect_err("this should not decode")
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("an encoder");
    bytes.into_inner()
}

fn mean_difference(a: &RgbImage8, b: &RgbImage8) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.data.iter().zip(&b.data).map(|(x, y)| f64::from(x.abs_diff(*y))).sum::<f64>() / a.data.len() as f64
}

#[test]
fn every_kind_of_jpeg_decodes_as_pillow_does() {
    for name in ["progressive", "gray", "cmyk", "restarts"] {
        let found = ok(&data(&format!("{name}.jpg")));
        let expected = ok(&data(&format!("{name}.expected.png")));
        let mean = mean_difference(&found, &expected);
        assert!(mean < 1.0, "{name}: differs by {mean:.2} levels on average");
    }
}

#[test]
fn all_eight_orientations_come_out_upright() {
    let expected = ok(&data("picture.png"));
    assert_eq!((expected.width, expected.height), (48, 32));
    for orientation in 1..=8 {
        let found = ok(&data(&format!("orientation{orientation}.jpg")));
        let mean = mean_difference(&found, &expected);
        assert!(mean < 2.0, "orientation {orientation}: differs by {mean:.2} levels on average");
    }
}

#[test]
fn every_lossless_format_keeps_the_pixels() {
    let expected = ok(&data("picture.png"));
    let image = image::load_from_memory(&data("picture.png")).unwrap();
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
        assert_eq!(ok(&encoded(&image, format)), expected, "{format:?}");
    }
    // GIF has a palette of 256 colours.
    let gif = ok(&encoded(&image.to_rgba8().into(), ImageFormat::Gif));
    assert!(mean_difference(&gif, &expected) < 8.0);
}

#[test]
fn transparency_is_composited_over_white() {
    let pixels = [[200, 100, 0, 0], [200, 100, 0, 255], [200, 100, 0, 51]].concat();
    let image = DynamicImage::ImageRgba8(image::RgbaImage::from_raw(3, 1, pixels).unwrap());
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff] {
        let found = ok(&encoded(&image, format));
        // A fifth of the colour over four fifths of white.
        assert_eq!(found.data, [255, 255, 255, 200, 100, 0, 244, 224, 204], "{format:?}");
    }
    let grey = DynamicImage::ImageLumaA8(image::GrayAlphaImage::from_raw(2, 1, vec![9, 0, 9, 255]).unwrap());
    assert_eq!(ok(&encoded(&grey, ImageFormat::Png)).data, [255, 255, 255, 9, 9, 9]);
}

#[test]
fn sixteen_bits_and_grey_become_eight_bit_rgb() {
    let deep =
        image::ImageBuffer::<image::Rgb<u16>, _>::from_raw(1, 2, vec![0, 257, 65535, 128 * 257, 1, 65534]);
    let found = ok(&encoded(&DynamicImage::ImageRgb16(deep.unwrap()), ImageFormat::Png));
    assert_eq!(found, RgbImage8::new(1, 2, vec![0, 1, 255, 128, 0, 255]));
    let grey = DynamicImage::ImageLuma8(image::GrayImage::from_raw(2, 1, vec![3, 250]).unwrap());
    assert_eq!(ok(&encoded(&grey, ImageFormat::Png)).data, [3, 3, 3, 250, 250, 250]);
}

#[test]
fn what_is_no_image_says_so() {
    for bytes in [&b""[..], b"x", b"Dear shop, please find my sofa.", &[0; 4096], b"{\"image\": 1}"] {
        let error = failure(bytes);
        assert_eq!(error, DecodeError::NotAnImage);
        assert!(error.to_string().contains("not an image"));
    }
    for (bytes, name) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7", "PDF"),
    ] {
        let error = failure(bytes);
        assert_eq!(error.kind(), "unsupported");
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// A cut file must never become a picture that is half grey.
#[test]
fn a_file_cut_anywhere_is_an_error() {
    let image = image::load_from_memory(&data("picture.png")).unwrap();
    let mut files: Vec<(String, Vec<u8>)> =
        ["progressive.jpg", "gray.jpg", "cmyk.jpg", "restarts.jpg", "orientation6.jpg", "picture.png"]
            .map(|name| (name.to_owned(), data(name)))
            .into();
    for format in [ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
        files.push((format!("{format:?}"), encoded(&image, format)));
    }
    for (name, bytes) in files {
        let whole = ok(&bytes);
        for length in 0..bytes.len() {
            match decode(&bytes[..length], &DecodeLimits::default()) {
                Err(error) => assert!(!error.to_string().is_empty()),
                // What follows the pixels (padding, end chunks) may be missing from lossless formats.
                Ok(image) => assert!(
                    !name.ends_with("jpg") && image == whole,
                    "{name} cut to {length} of {} bytes decodes",
                    bytes.len()
                ),
            }
        }
    }
}

#[test]
fn a_truncated_jpeg_is_called_truncated() {
    let bytes = data("orientation1.jpg");
    let error = failure(&bytes[..bytes.len() * 2 / 3]);
    assert_eq!(error, DecodeError::Truncated { format: "JPEG" });
    assert_eq!(error.kind(), "truncated");
    let bytes = data("picture.png");
    assert!(matches!(failure(&bytes[..bytes.len() / 2]).kind(), "truncated" | "corrupt"));
}

/// Viewers skip padding between the parts of a header, and so do we; the pixels must be all there.
#[test]
fn stray_bytes_between_a_jpegs_segments_are_skipped() {
    let bytes = data("orientation6.jpg");
    let expected = ok(&bytes);
    let first = 4 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]])) - 2 + 2;
    for stray in [&[0u8; 7][..], b"camera padding"] {
        let mut padded = bytes.clone();
        padded.splice(first..first, stray.iter().copied());
        assert_eq!(ok(&padded), expected);
        let error = failure(&padded[..padded.len() - 40]);
        assert_eq!(error.kind(), "truncated", "{error}");
    }
}

#[test]
fn flipped_bits_never_panic() {
    let image = image::load_from_memory(&data("picture.png")).unwrap();
    let mut files: Vec<Vec<u8>> =
        ["progressive.jpg", "cmyk.jpg", "restarts.jpg", "orientation6.jpg", "picture.png"].map(data).into();
    for format in [ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
        files.push(encoded(&image, format));
    }
    let limits = DecodeLimits { max_bytes: 1 << 20, max_pixels: 1 << 16, ..DecodeLimits::default() };
    let mut failures = 0;
    for bytes in files {
        for at in 0..bytes.len() {
            for bit in [0, 3, 7] {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                failures += usize::from(decode(&damaged, &limits).is_err());
            }
        }
    }
    assert!(failures > 100, "only {failures} damaged files were noticed");
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    let bytes = data("picture.png");
    let limits = DecodeLimits { max_bytes: bytes.len() - 1, ..DecodeLimits::default() };
    let expected = DecodeError::TooManyBytes { bytes: bytes.len(), limit: bytes.len() - 1 };
    assert_eq!(decode(&bytes, &limits).unwrap_err(), expected);

    let limits = DecodeLimits { max_pixels: 48 * 32 - 1, ..DecodeLimits::default() };
    for name in ["picture.png", "progressive.jpg"] {
        let expected = DecodeError::TooManyPixels { width: 48, height: 32, limit: 48 * 32 - 1 };
        assert_eq!(decode(&data(name), &limits).unwrap_err(), expected, "{name}");
    }

    // A thousand empty scans, each of which would cost a pass over the whole image.
    let mut scans = data("progressive.jpg");
    let end = scans.len() - 2;
    scans.splice(end..end, [0xFF, 0xDA].repeat(1000));
    let error = failure(&scans);
    assert!(error.to_string().contains("more than 500 scans"), "{error}");

    // A header that claims 60,000 x 60,000 pixels, in a file of a few hundred bytes.
    let mut bomb = data("gray.jpg");
    let frame = bomb.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    bomb[frame + 5..frame + 9].copy_from_slice(&[0xEA, 0x60, 0xEA, 0x60]);
    let expected = DecodeError::TooManyPixels { width: 60_000, height: 60_000, limit: 64_000_000 };
    assert_eq!(failure(&bomb), expected);
}
