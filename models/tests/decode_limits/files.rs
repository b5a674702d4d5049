//! Good files of every format.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// Path of a test image.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images").join(name)
}

/// Named files, small ones, of every format and kind of JPEG.
pub(crate) fn small() -> Vec<(&'static str, Vec<u8>)> {
    let mut files = Vec::new();
    for name in ["progressive.jpg", "gray.jpg", "cmyk.jpg", "restarts.jpg", "orientation6.jpg", "picture.png"]
    {
        files.push((name, std::fs::read(data(name)).expect("a test image")));
    }
    let image = pattern(40, 30);
    files.push(("lossless WebP", encoded(&image, ImageFormat::WebP)));
    files.push(("lossy WebP", std::fs::read(data("lossy.webp")).expect("a test image")));
    files.push(("animated GIF", crate::bombs::gif(3)));
    files.push(("GIF", encoded(&image.to_rgba8().into(), ImageFormat::Gif)));
    files.push(("BMP", encoded(&image, ImageFormat::Bmp)));
    files.push(("TIFF", encoded(&image, ImageFormat::Tiff)));
    files.push(("16-bit PNG", encoded(&image.to_rgba16().into(), ImageFormat::Png)));
    files.push(("16-bit TIFF", encoded(&image.to_rgb16().into(), ImageFormat::Tiff)));
    files
}

/// Files of 1000 x 1000 pixels.
pub(crate) fn large() -> Vec<(&'static str, Vec<u8>)> {
    let image = pattern(1000, 1000);
    let mut files = vec![
        ("grey PNG", encoded(&image.to_luma8().into(), ImageFormat::Png)),
        ("PNG with alpha", encoded(&image.to_rgba8().into(), ImageFormat::Png)),
    ];
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff] {
        files.push((format.to_mime_type(), encoded(&image, format)));
    }
    files.push(("image/gif", encoded(&pattern(1000, 1000).to_rgba8().into(), ImageFormat::Gif)));
    files
}

fn pattern(width: u32, height: u32) -> DynamicImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x / 3) as u8, (y / 2) as u8, ((x ^ y) & 0xF0) as u8]))
        .into()
}

pub(crate) fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("an encoder");
    bytes.into_inner()
}
