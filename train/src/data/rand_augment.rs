//! RandAugment (Cubuk et al. 2020) and random erasing (Zhong et al. 2020) on square 8-bit images.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Largest angle of a rotation at full strength, in radians.
const ROTATION_MAX: f64 = 30.0 / 180.0 * std::f64::consts::PI;
/// Largest slope of a shear at full strength.
const SHEAR_MAX: f64 = 0.3;
/// Largest translation at full strength, as a share of the side.
const TRANSLATION_MAX: f64 = 0.45;
/// Largest relative change of brightness, contrast and saturation at full strength.
const ENHANCE_MAX: f64 = 0.9;
/// What comes in from outside a turned or moved image.
const OUTSIDE: [u8; 3] = [128; 3];
/// Shares of the area that random erasing takes, and the range of the rectangle's aspect ratio.
const ERASED_AREA: std::ops::Range<f64> = 0.02..0.33;
const ERASED_RATIO: std::ops::Range<f64> = 0.3..3.3;

/// The operations, each drawn with the same probability.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Identity,
    AutoContrast,
    Equalize,
    Posterize,
    Solarize,
    Brightness,
    Contrast,
    Saturation,
    Rotate,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
}

const OPERATIONS: [Operation; 13] = [
    Operation::Identity,
    Operation::AutoContrast,
    Operation::Equalize,
    Operation::Posterize,
    Operation::Solarize,
    Operation::Brightness,
    Operation::Contrast,
    Operation::Saturation,
    Operation::Rotate,
    Operation::ShearX,
    Operation::ShearY,
    Operation::TranslateX,
    Operation::TranslateY,
];

/// Applies `count` random operations of `strength` (0 to 10) to `pixels`, `side` x `side` RGB.
pub(super) fn rand_augment(
    pixels: &mut Vec<u8>,
    side: usize,
    count: usize,
    strength: f64,
    rng: &mut ChaCha8Rng,
) {
    for _ in 0..count {
        let operation = OPERATIONS[rng.random_range(0..OPERATIONS.len())];
        let sign = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
        apply(operation, pixels, side, strength / 10.0, sign);
    }
}

fn apply(operation: Operation, pixels: &mut Vec<u8>, side: usize, strength: f64, sign: f64) {
    let signed = sign * strength;
    match operation {
        Operation::Identity => {}
        Operation::AutoContrast => per_channel(pixels, stretch),
        Operation::Equalize => per_channel(pixels, equalize),
        Operation::Posterize => {
            let mask = 0xFFu8 << (strength * 4.0).round() as u32;
            pixels.iter_mut().for_each(|v| *v &= mask);
        }
        Operation::Solarize => {
            let threshold = 256.0 * (1.0 - strength);
            pixels.iter_mut().filter(|v| f64::from(**v) >= threshold).for_each(|v| *v = 255 - *v);
        }
        Operation::Brightness => blend(pixels, 1.0 + signed * ENHANCE_MAX, |_| 0.0),
        Operation::Contrast => {
            let mean =
                pixels.as_chunks::<3>().0.iter().map(grey).sum::<f64>() / (pixels.len() / 3).max(1) as f64;
            blend(pixels, 1.0 + signed * ENHANCE_MAX, |_| mean);
        }
        Operation::Saturation => blend(pixels, 1.0 + signed * ENHANCE_MAX, grey),
        Operation::Rotate => {
            let (sin, cos) = (signed * ROTATION_MAX).sin_cos();
            *pixels = warp(pixels, side, [cos, -sin, 0.0, sin, cos, 0.0]);
        }
        Operation::ShearX => *pixels = warp(pixels, side, [1.0, signed * SHEAR_MAX, 0.0, 0.0, 1.0, 0.0]),
        Operation::ShearY => *pixels = warp(pixels, side, [1.0, 0.0, 0.0, signed * SHEAR_MAX, 1.0, 0.0]),
        Operation::TranslateX => {
            *pixels = warp(pixels, side, [1.0, 0.0, signed * TRANSLATION_MAX * side as f64, 0.0, 1.0, 0.0]);
        }
        Operation::TranslateY => {
            *pixels = warp(pixels, side, [1.0, 0.0, 0.0, 0.0, 1.0, signed * TRANSLATION_MAX * side as f64]);
        }
    }
}

/// Luma of a pixel (ITU-R 601).
fn grey(pixel: &[u8; 3]) -> f64 {
    0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2])
}

/// `base + factor * (pixel - base)`.
fn blend(pixels: &mut [u8], factor: f64, base: impl Fn(&[u8; 3]) -> f64) {
    for pixel in pixels.as_chunks_mut::<3>().0 {
        let base = base(pixel);
        *pixel = pixel.map(|v| (base + factor * (f64::from(v) - base)).round().clamp(0.0, 255.0) as u8);
    }
}

/// Replaces each channel's values by a table made from its histogram.
fn per_channel(pixels: &mut [u8], table: impl Fn(&[usize; 256]) -> Option<[u8; 256]>) {
    for channel in 0..3 {
        let mut histogram = [0usize; 256];
        pixels.iter().skip(channel).step_by(3).for_each(|&v| histogram[usize::from(v)] += 1);
        if let Some(table) = table(&histogram) {
            pixels.iter_mut().skip(channel).step_by(3).for_each(|v| *v = table[usize::from(*v)]);
        }
    }
}

/// Stretches the darkest to 0 and the lightest to 255; nothing for a single value.
fn stretch(histogram: &[usize; 256]) -> Option<[u8; 256]> {
    let low = histogram.iter().position(|&n| n > 0)?;
    let high = histogram.iter().rposition(|&n| n > 0).filter(|high| *high > low)?;
    let scale = 255.0 / (high - low) as f64;
    Some(std::array::from_fn(|v| ((v as f64 - low as f64) * scale).clamp(0.0, 255.0) as u8))
}

/// Spreads the values so that each is as frequent as the others, as far as it goes; nothing for a single value.
fn equalize(histogram: &[usize; 256]) -> Option<[u8; 256]> {
    let last = histogram.iter().rfind(|&&n| n > 0)?;
    let step = (histogram.iter().sum::<usize>() - last) / 255;
    if step == 0 {
        return None;
    }
    let mut below = step / 2;
    Some(std::array::from_fn(|v| {
        let value = (below / step).min(255) as u8;
        below += histogram[v];
        value
    }))
}

/// Each pixel from the place that `[a, b, c, d, e, f]` maps it to, seen from the centre: `(a x + b y + c, d x + e y + f)`.
fn warp(pixels: &[u8], side: usize, map: [f64; 6]) -> Vec<u8> {
    let centre = (side as f64 - 1.0) / 2.0;
    let mut out = Vec::with_capacity(pixels.len());
    for row in 0..side {
        for column in 0..side {
            let (x, y) = (column as f64 - centre, row as f64 - centre);
            let from_x = (map[0] * x + map[1] * y + map[2] + centre).round();
            let from_y = (map[3] * x + map[4] * y + map[5] + centre).round();
            let inside = (0.0..side as f64).contains(&from_x) && (0.0..side as f64).contains(&from_y);
            let start = (from_y.max(0.0) as usize * side + from_x.max(0.0) as usize) * 3;
            out.extend_from_slice(if inside { &pixels[start..start + 3] } else { &OUTSIDE });
        }
    }
    out
}

/// Replaces a random rectangle of `pixels`, `side` x `side` RGB, by noise.
pub(super) fn erase(pixels: &mut [u8], side: usize, rng: &mut ChaCha8Rng) {
    for _ in 0..10 {
        let area = rng.random_range(ERASED_AREA) * (side * side) as f64;
        let ratio = rng.random_range(ERASED_RATIO.start.ln()..ERASED_RATIO.end.ln()).exp();
        let (width, height) = ((area * ratio).sqrt() as usize, (area / ratio).sqrt() as usize);
        if width == 0 || height == 0 || width >= side || height >= side {
            continue;
        }
        let (left, top) = (rng.random_range(0..side - width), rng.random_range(0..side - height));
        for row in top..top + height {
            let start = (row * side + left) * 3;
            pixels[start..start + width * 3].iter_mut().for_each(|v| *v = rng.random());
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const SIDE: usize = 8;

    fn picture() -> Vec<u8> {
        (0..SIDE * SIDE * 3).map(|i| (40 + i) as u8).collect()
    }

    #[test]
    fn operations_do_what_they_are_called() {
        let done = |operation, strength, sign| {
            let mut pixels = picture();
            apply(operation, &mut pixels, SIDE, strength, sign);
            pixels
        };
        assert_eq!(done(Operation::Rotate, 0.0, 1.0), picture());
        let moved = done(Operation::TranslateX, 2.0 / (TRANSLATION_MAX * SIDE as f64), 1.0);
        assert_eq!(moved[..3], picture()[6..9], "two pixels to the left");
        assert_eq!(moved[SIDE * 3 - 3..SIDE * 3], OUTSIDE);
        assert!(done(Operation::Solarize, 1.0, 1.0).iter().zip(picture()).all(|(a, b)| *a == 255 - b));
        assert!(done(Operation::Posterize, 1.0, 1.0).iter().all(|v| v & 0x0F == 0));
        let stretched = done(Operation::AutoContrast, 0.5, 1.0);
        for channel in 0..3 {
            let values = || stretched.iter().skip(channel).step_by(3);
            assert_eq!((values().min(), values().max()), (Some(&0), Some(&255)));
        }
        let mean = |pixels: &[u8]| pixels.iter().map(|&v| f64::from(v)).sum::<f64>() / pixels.len() as f64;
        assert!(mean(&done(Operation::Brightness, 0.5, -1.0)) < 0.6 * mean(&picture()));
    }

    #[test]
    fn any_strength_and_flat_pictures_are_fine_and_seeds_repeat() {
        for (seed, strength) in [(1, 0.0), (2, 5.0), (3, 10.0)] {
            let run = |mut pixels: Vec<u8>| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rand_augment(&mut pixels, SIDE, 40, strength, &mut rng);
                erase(&mut pixels, SIDE, &mut rng);
                assert_eq!(pixels.len(), SIDE * SIDE * 3);
                pixels
            };
            assert_eq!(run(picture()), run(picture()));
            run(vec![200; SIDE * SIDE * 3]);
        }
    }

    #[test]
    fn erasing_changes_a_rectangle_and_nothing_else() {
        let mut pixels = vec![7u8; 32 * 32 * 3];
        erase(&mut pixels, 32, &mut ChaCha8Rng::seed_from_u64(3));
        let changed: Vec<(usize, usize)> =
            (0..32 * 32).filter(|i| pixels[i * 3..i * 3 + 3] != [7; 3]).map(|i| (i % 32, i / 32)).collect();
        let span = |of: fn(&(usize, usize)) -> usize| {
            let values = || changed.iter().map(of);
            values().max().unwrap() - values().min().unwrap() + 1
        };
        let area = span(|p| p.0) * span(|p| p.1);
        assert!(area < 32 * 32 / 2 && changed.len() * 10 > area * 9, "{} of {area}", changed.len());
    }
}
