//! Any pixel format to 8-bit RGB over white: in place where the pixels shrink, so that no second image is needed.

use image::ColorType;

/// Converts a decoder's buffer; `None` for a pixel format that is not known.
///
/// 16 bits are rounded to 8, floating point is cut off to 0..1, transparency is composited over white.
pub(super) fn convert(colour: ColorType, data: Vec<u8>) -> Option<Vec<u8>> {
    Some(match colour {
        ColorType::Rgb8 => data,
        ColorType::L8 => grown(&data, |[grey]: [u8; 1]| [grey; 3]),
        ColorType::La8 => grown(&data, |[grey, alpha]: [u8; 2]| over_white([grey; 3], alpha)),
        ColorType::L16 => grown(&data, |grey: [u8; 2]| [from_16(grey); 3]),
        ColorType::La16 => {
            shrunk(data, |[a, b, c, d]: [u8; 4]| over_white([from_16([a, b]); 3], from_16([c, d])))
        }
        ColorType::Rgba8 => shrunk(data, |[r, g, b, a]: [u8; 4]| over_white([r, g, b], a)),
        ColorType::Rgb16 => shrunk(data, |pixel: [u8; 6]| words(&pixel)),
        ColorType::Rgba16 => {
            shrunk(data, |pixel: [u8; 8]| over_white(words(&pixel), from_16([pixel[6], pixel[7]])))
        }
        ColorType::Rgb32F => shrunk(data, |pixel: [u8; 12]| floats(&pixel)),
        ColorType::Rgba32F => shrunk(data, |pixel: [u8; 16]| {
            let [alpha, ..] = floats(&[&pixel[12..], &[0; 8]].concat());
            over_white(floats(&pixel), alpha)
        }),
        _ => return None,
    })
}

fn grown<const N: usize>(data: &[u8], pixel: impl Fn([u8; N]) -> [u8; 3]) -> Vec<u8> {
    data.as_chunks::<N>().0.iter().flat_map(|bytes| pixel(*bytes)).collect()
}

fn shrunk<const N: usize>(mut data: Vec<u8>, pixel: impl Fn([u8; N]) -> [u8; 3]) -> Vec<u8> {
    let count = data.len() / N;
    for index in 0..count {
        let (from, to) = (index * N, index * 3);
        if let Some(bytes) = data.get(from..).and_then(|rest| rest.first_chunk::<N>()) {
            let rgb = pixel(*bytes);
            data[to..to + 3].copy_from_slice(&rgb);
        }
    }
    data.truncate(3 * count);
    data
}

/// 0..=65535 to 0..=255, rounded.
fn from_16(bytes: [u8; 2]) -> u8 {
    ((u32::from(u16::from_ne_bytes(bytes)) + 128) / 257) as u8
}

fn words(pixel: &[u8]) -> [u8; 3] {
    [0, 2, 4].map(|at| from_16([pixel[at], pixel[at + 1]]))
}

fn floats(pixel: &[u8]) -> [u8; 3] {
    [0, 4, 8].map(|at| {
        let value = f32::from_ne_bytes([pixel[at], pixel[at + 1], pixel[at + 2], pixel[at + 3]]);
        // Not a number becomes 0.
        (value.clamp(0.0, 1.0) * 255.0).round() as u8
    })
}

fn over_white(rgb: [u8; 3], alpha: u8) -> [u8; 3] {
    let alpha = u32::from(alpha);
    rgb.map(|c| ((u32::from(c) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}
