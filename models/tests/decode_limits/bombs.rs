//! Small files that would cost a lot, and what they are to be refused for.

use image::{DynamicImage, ImageFormat};

use crate::files::{data, encoded};

/// Name, file, and the kind of error that it must give.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        ("1 MB PNG of 50,000 x 50,000", png(50_000, 50_000, 8, 6, &[0; 1 << 20]), "too_many_pixels"),
        ("16-bit PNG of 64 million pixels", png(8000, 8000, 16, 6, &[0; 64]), "too_much_memory"),
        ("PNG that announces 100,000 frames", apng(100_000), "too_many_frames"),
        ("GIF of 100,000 frames", gif(100_000), "too_many_frames"),
        ("GIF of 65,535 x 65,535", gif_of(u16::MAX, u16::MAX, 1), "too_many_pixels"),
        ("GIF with a frame larger than its screen", gif_of(8, 8, u16::MAX), "too_much_memory"),
        ("WebP of 100,000 frames", webp(100_000), "too_many_frames"),
        ("WebP that announces 16 MB of pixels", webp_with_large_partition(), "truncated"),
        ("BMP of 50,000 x 50,000", bmp(50_000, 50_000), "too_many_pixels"),
        ("TIFF of 60,000 x 60,000", tiff(60_000, 60_000, 1), "too_many_pixels"),
        ("TIFF of a billion strips", tiff(8, 8, 1_000_000_000), "too_much_memory"),
        ("JPEG of 65,500 x 65,500", jpeg(0xC0, 65_500, 65_500, 3), "too_many_pixels"),
        ("progressive CMYK JPEG of 64 million pixels", jpeg(0xC2, 8000, 8000, 4), "too_much_memory"),
    ]
}

/// Files whose metadata unpacks to many times their size.
pub(crate) fn hidden() -> Vec<(&'static str, Vec<u8>)> {
    let packed = packed_zeros();
    let chunk = |kind: &[u8; 4], head: &[u8]| {
        let mut file = png(4, 4, 8, 2, &[0; 64]);
        // After the signature and the header.
        file.splice(33..33, png_chunk(kind, &[head, &packed].concat()));
        file
    };
    vec![
        ("PNG with 64 MB in its colour profile", chunk(b"iCCP", b"p\0\0")),
        ("PNG with 64 MB of text", chunk(b"zTXt", b"t\0\0")),
        ("PNG with 64 MB of international text", chunk(b"iTXt", b"t\0\x01\0\0\0")),
    ]
}

/// 64 MB of zeros as zlib packs them, out of the pixel data of a PNG.
fn packed_zeros() -> Vec<u8> {
    let file = encoded(&DynamicImage::new_luma8(8000, 8000), ImageFormat::Png);
    let (mut at, mut data) = (8, Vec::new());
    while at + 8 <= file.len() {
        let length = u32::from_be_bytes(file[at..at + 4].try_into().expect("four bytes")) as usize;
        if &file[at + 4..at + 8] == b"IDAT" {
            data.extend_from_slice(&file[at + 8..at + 8 + length]);
        }
        at += 12 + length;
    }
    data
}

fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), data].concat();
    let mut crc = u32::MAX;
    for byte in &body {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
        }
    }
    [&(data.len() as u32).to_be_bytes()[..], &body, &(!crc).to_be_bytes()].concat()
}

fn png_header(width: u32, height: u32, bits: u8, colour: u8) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[bits, colour, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".as_slice(), &png_chunk(b"IHDR", &header)].concat()
}

fn png(width: u32, height: u32, bits: u8, colour: u8, pixels: &[u8]) -> Vec<u8> {
    [png_header(width, height, bits, colour), png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")].concat()
}

fn apng(frames: u32) -> Vec<u8> {
    let control = [frames.to_be_bytes(), [0; 4]].concat();
    [png_header(1, 1, 8, 2), png_chunk(b"acTL", &control), png_chunk(b"IDAT", &[0; 16])].concat()
}

/// An animation of frames of one pixel.
pub(crate) fn gif(frames: usize) -> Vec<u8> {
    let mut file = gif_screen(1, 1);
    for _ in 0..frames {
        file.extend([0x21, 0xF9, 4, 0, 0, 0, 0, 0]);
        file.extend(gif_frame(1, 1));
    }
    file.push(0x3B);
    file
}

/// One frame of `side` x `side` on a screen of another size.
fn gif_of(width: u16, height: u16, side: u16) -> Vec<u8> {
    [gif_screen(width, height), gif_frame(side, side), vec![0x3B]].concat()
}

fn gif_screen(width: u16, height: u16) -> Vec<u8> {
    // A palette of two colours.
    let rest = [0x80, 0, 0, 10, 20, 30, 200, 210, 220];
    [b"GIF89a".as_slice(), &width.to_le_bytes(), &height.to_le_bytes(), &rest].concat()
}

fn gif_frame(width: u16, height: u16) -> Vec<u8> {
    // Clear, one pixel of colour 1, end: codes of three bits.
    let data = [0, 2, 2, 0x4C, 0x01, 0];
    [[0x2C, 0, 0, 0, 0].as_slice(), &width.to_le_bytes(), &height.to_le_bytes(), &data].concat()
}

fn webp(frames: u32) -> Vec<u8> {
    let mut body = b"WEBPVP8X\x0A\0\0\0\x02\0\0\0\0\0\0\0\0\0ANIM\x06\0\0\0\0\0\0\0\0\0".to_vec();
    for _ in 0..frames {
        body.extend(b"ANMF\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
    [b"RIFF".as_slice(), &(body.len() as u32).to_le_bytes(), &body].concat()
}

/// The first of the partitions after the header is as long as three bytes can say.
fn webp_with_large_partition() -> Vec<u8> {
    let mut file = std::fs::read(data("partitions.webp")).expect("a test image");
    let header = u32::from_le_bytes([file[20], file[21], file[22], 0]) >> 5;
    file[30 + header as usize..][..3].fill(0xFF);
    file
}

fn bmp(width: i32, height: i32) -> Vec<u8> {
    let mut file = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    file.extend(width.to_le_bytes());
    file.extend(height.to_le_bytes());
    file.extend([1, 0, 24, 0]);
    file.extend([0; 24 + 64]);
    file
}

fn tiff(width: u32, height: u32, strips: u32) -> Vec<u8> {
    // Tag, type (3: two bytes, 4: four bytes), count, value: width, height, 8 bits, not packed, grey, strips at 8.
    let tags: [(u16, u16, u32, u32); 8] = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, strips, 8),
        (278, 4, 1, height),
        (279, 4, strips, width.saturating_mul(height)),
    ];
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    file.extend((tags.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in tags {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    file
}

fn jpeg(frame: u8, width: u16, height: u16, components: u8) -> Vec<u8> {
    let mut file = vec![0xFF, 0xD8, 0xFF, frame, 0, 8 + 3 * components, 8];
    file.extend(height.to_be_bytes());
    file.extend(width.to_be_bytes());
    file.push(components);
    for id in 1..=components {
        file.extend([id, 0x11, 0]);
    }
    file.extend([0xFF, 0xDA, 0, 6 + 2 * components, components]);
    for id in 1..=components {
        file.extend([id, 0]);
    }
    file.extend([0, 63, 0, 0x55, 0x55, 0xFF, 0xD9]);
    file
}
