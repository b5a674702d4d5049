//! Value noise for backdrops: cheap, repeatable on every machine, and needing no tables.

use glam::Vec2;

/// A pseudo-random number in 0..1 for a grid point.
pub(crate) fn hash(x: f32, y: f32, seed: u32) -> f32 {
    let mut bits = (x as i32 as u32).wrapping_mul(0x9E37_79B1)
        ^ (y as i32 as u32).wrapping_mul(0x85EB_CA77)
        ^ seed.wrapping_mul(0xC2B2_AE3D);
    bits ^= bits >> 15;
    bits = bits.wrapping_mul(0x2C1B_3C6D);
    bits ^= bits >> 12;
    bits = bits.wrapping_mul(0x297A_2D39);
    bits ^= bits >> 15;
    (bits >> 8) as f32 / (1 << 24) as f32
}

/// Smooth noise in 0..1 whose bumps are one unit wide.
fn smooth(place: Vec2, seed: u32) -> f32 {
    let cell = place.floor();
    let inner = place - cell;
    let weight = inner * inner * (3.0 - 2.0 * inner);
    let at = |dx: f32, dy: f32| hash(cell.x + dx, cell.y + dy, seed);
    let low = at(0.0, 0.0) + (at(1.0, 0.0) - at(0.0, 0.0)) * weight.x;
    let high = at(0.0, 1.0) + (at(1.0, 1.0) - at(0.0, 1.0)) * weight.x;
    low + (high - low) * weight.y
}

/// Three octaves of [`smooth`] noise, in 0..1.
pub(crate) fn fractal(place: Vec2, seed: u32) -> f32 {
    (smooth(place, seed) * 4.0 + smooth(place * 2.1, seed ^ 0x51) * 2.0 + smooth(place * 4.3, seed ^ 0xA3))
        / 7.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_covers_its_range_and_repeats() {
        let values: Vec<f32> =
            (0..2000).map(|i| fractal(Vec2::new(i as f32 * 0.37, i as f32 * -0.21), 7)).collect();
        let (low, high) = values.iter().fold((1.0_f32, 0.0_f32), |(l, h), &v| (l.min(v), h.max(v)));
        assert!((0.0..0.25).contains(&low) && (0.75..=1.0).contains(&high), "{low}..{high}");
        assert_eq!(values[5], fractal(Vec2::new(5.0 * 0.37, 5.0 * -0.21), 7));
        assert_ne!(values[5], fractal(Vec2::new(5.0 * 0.37, 5.0 * -0.21), 8));
    }
}
