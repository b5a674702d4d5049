//! What stands behind and under a piece: a studio, a room or the open air, all procedural and drawn by lot.

use glam::{Vec2, Vec3};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::noise::{fractal, hash};
use super::texture::srgb_to_linear;

/// Backdrop of one view; colours are linear RGB.
#[derive(Clone, Debug)]
pub(crate) enum Backdrop {
    /// One colour everywhere, darkened by `shadow` (0..=1) where the piece shades it.
    Plain { color: Vec3, shadow: f32 },
    /// From `low` to `high` along a direction of the picture, or outwards from its middle.
    Gradient { low: Vec3, high: Vec3, direction: Option<Vec2>, shadow: f32 },
    /// A floor and two walls.
    Room { floor: Surface, wall: Surface, walls: [Wall; 2] },
    /// Ground under a sky.
    Outdoors { ground: Surface, horizon: Vec3, zenith: Vec3, haze: f32 },
}

/// An upright plane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wall {
    /// Horizontal unit vector towards the piece.
    pub(crate) normal: Vec3,
    /// Distance from the piece's centre, in radii of the sphere around it.
    pub(crate) distance: f32,
}

/// Pattern of a surface.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pattern {
    Even,
    Planks,
    Tiles,
    Checker,
    Stripes,
    Bricks,
    Mottled,
}

/// A patterned surface.
#[derive(Clone, Debug)]
pub(crate) struct Surface {
    pattern: Pattern,
    main: Vec3,
    second: Vec3,
    /// Size of one element in centimetres.
    pitch: f32,
    /// Turns the pattern.
    turn: f32,
    shift: Vec2,
    seed: u32,
}

impl Backdrop {
    /// Draws a backdrop; `studio` is the probability of a plain or graded one. Walls face the camera at `azimuth`.
    pub(crate) fn draw(rng: &mut ChaCha8Rng, studio: f64, azimuth: f32) -> Self {
        let shadow = if rng.random_bool(0.75) { rng.random_range(0.2..0.7) } else { 0.0 };
        if rng.random_bool(studio) {
            if rng.random_bool(0.5) {
                let color = if rng.random_bool(0.5) { pale(rng) } else { any_color(rng) };
                return Self::Plain { color, shadow };
            }
            let low = any_color(rng);
            let high = if rng.random_bool(0.5) { low.lerp(Vec3::ONE, 0.6) } else { any_color(rng) };
            let turn = rng.random_range(0.0..std::f32::consts::TAU);
            let direction = rng.random_bool(0.6).then(|| Vec2::from_angle(turn));
            return Self::Gradient { low, high, direction, shadow };
        }
        if rng.random_bool(0.78) {
            let facing = azimuth + rng.random_range(-0.7..0.7_f32);
            let side: f32 = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
            let first = Vec3::new(facing.sin(), 0.0, facing.cos());
            let second = Vec3::new(first.z * side, 0.0, -first.x * side);
            let walls = [
                Wall { normal: first, distance: rng.random_range(1.02..2.6) },
                Wall { normal: second, distance: rng.random_range(1.05..4.0) },
            ];
            return Self::Room { floor: Surface::floor(rng), wall: Surface::wall(rng), walls };
        }
        let sky = Vec3::new(0.25, 0.45, 0.85).lerp(Vec3::splat(0.75), rng.random_range(0.0..1.0));
        Self::Outdoors {
            ground: Surface::ground(rng),
            horizon: sky.lerp(Vec3::splat(0.9), 0.6),
            zenith: sky,
            haze: rng.random_range(0.3..1.0),
        }
    }
}

impl Surface {
    fn new(rng: &mut ChaCha8Rng, pattern: Pattern, main: Vec3, second: Vec3, pitch: f32) -> Self {
        Self {
            pattern,
            main,
            second,
            pitch,
            turn: rng.random_range(0.0..std::f32::consts::TAU),
            shift: Vec2::new(rng.random_range(-500.0..500.0), rng.random_range(-500.0..500.0)),
            seed: rng.random(),
        }
    }

    fn floor(rng: &mut ChaCha8Rng) -> Self {
        let lot: f32 = rng.random();
        if lot < 0.4 {
            let color = wood(rng);
            let pitch = rng.random_range(8.0..22.0);
            Self::new(rng, Pattern::Planks, color, color * 0.55, pitch)
        } else if lot < 0.6 {
            let (color, joint) = (any_color(rng).lerp(Vec3::splat(0.5), 0.5), any_color(rng));
            let pitch = rng.random_range(15.0..60.0);
            Self::new(rng, Pattern::Tiles, color, joint, pitch)
        } else if lot < 0.7 {
            let (color, second) = (pale(rng), any_color(rng));
            let pitch = rng.random_range(15.0..45.0);
            Self::new(rng, Pattern::Checker, color, second, pitch)
        } else {
            let color = any_color(rng);
            let pitch = rng.random_range(2.0..25.0);
            let second = color * rng.random_range(0.6..0.95);
            Self::new(rng, Pattern::Mottled, color, second, pitch)
        }
    }

    fn wall(rng: &mut ChaCha8Rng) -> Self {
        let color = if rng.random_bool(0.6) { pale(rng) } else { any_color(rng) };
        let second = if rng.random_bool(0.5) { color * rng.random_range(0.7..0.95) } else { any_color(rng) };
        let lot: f32 = rng.random();
        let (pattern, pitch) = if lot < 0.5 {
            (Pattern::Even, 50.0)
        } else if lot < 0.65 {
            (Pattern::Stripes, rng.random_range(5.0..40.0))
        } else if lot < 0.75 {
            (Pattern::Bricks, rng.random_range(7.0..14.0))
        } else if lot < 0.85 {
            (Pattern::Tiles, rng.random_range(10.0..30.0))
        } else {
            (Pattern::Mottled, rng.random_range(5.0..60.0))
        };
        Self { turn: 0.0, ..Self::new(rng, pattern, color, second, pitch) }
    }

    fn ground(rng: &mut ChaCha8Rng) -> Self {
        let grass = Vec3::new(0.12, 0.22, 0.05) * rng.random_range(0.6..1.6);
        let stone = Vec3::new(0.3, 0.28, 0.26) * rng.random_range(0.4..1.8);
        let color = if rng.random_bool(0.5) { grass } else { stone };
        let pattern = if rng.random_bool(0.75) { Pattern::Mottled } else { Pattern::Tiles };
        let pitch = rng.random_range(6.0..40.0);
        let second = color * rng.random_range(0.4..0.8);
        Self::new(rng, pattern, color, second, pitch)
    }

    /// Reflectance at a place in centimetres, averaged over about `footprint` centimetres.
    pub(crate) fn color(&self, place: Vec2, footprint: f32) -> Vec3 {
        let place = Vec2::from_angle(self.turn).rotate(place + self.shift) / self.pitch;
        let footprint = footprint / self.pitch;
        // Elements smaller than a pixel fade into their mean.
        let detail = (1.5 - 1.5 * footprint).clamp(0.0, 1.0);
        let mixed = |share: f32, mean: f32| self.main.lerp(self.second, mean + (share - mean) * detail);
        match self.pattern {
            Pattern::Even => self.main * (1.0 + 0.06 * (fractal(place, self.seed) - 0.5)),
            Pattern::Mottled => mixed(fractal(place, self.seed), 0.5),
            Pattern::Stripes => mixed(band(place.x * 0.5, 0.5, footprint * 0.5), 0.5),
            Pattern::Checker => {
                let other = (place.x.floor() + place.y.floor()).rem_euclid(2.0);
                mixed(other, 0.5)
            }
            Pattern::Tiles => {
                let tone = 1.0 + 0.12 * detail * (hash(place.x.floor(), place.y.floor(), self.seed) - 0.5);
                let joint = band(place.x, 0.04, footprint).max(band(place.y, 0.04, footprint));
                mixed(joint, 0.08) * tone
            }
            Pattern::Bricks => {
                let row = place.y.floor();
                let along = place.x / 2.6 + 0.5 * row.rem_euclid(2.0);
                let tone = 1.0 + 0.35 * detail * (hash(along.floor(), row, self.seed) - 0.5);
                let joint = band(along, 0.04, footprint / 2.6).max(band(place.y, 0.1, footprint));
                mixed(joint, 0.14) * tone
            }
            Pattern::Planks => {
                let row = place.x.floor();
                let along = place.y / 9.0 + hash(row, 0.0, self.seed);
                let tone = 1.0 + 0.45 * detail * (hash(row, along.floor(), self.seed ^ 1) - 0.5);
                let grain = fractal(Vec2::new(place.x * 6.0, place.y * 0.4 + row * 7.0), self.seed ^ 2) - 0.5;
                let joint = band(place.x, 0.03, footprint).max(band(along, 0.004, footprint / 9.0));
                mixed(joint, 0.04) * tone * (1.0 + 0.35 * detail * grain)
            }
        }
    }
}

/// 1 in the first `width` of every unit of `x`, 0 elsewhere, with edges softened by `footprint`.
fn band(x: f32, width: f32, footprint: f32) -> f32 {
    let x = x - x.floor();
    let soft = footprint.clamp(1e-4, 0.5);
    let rise = (x / soft + 0.5).clamp(0.0, 1.0);
    let fall = ((width - x) / soft + 0.5).clamp(0.0, 1.0);
    let next = ((x - 1.0) / soft + 0.5).clamp(0.0, 1.0);
    (rise * fall).max(next)
}

fn from_srgb(red: f32, green: f32, blue: f32) -> Vec3 {
    Vec3::new(red, green, blue).clamp(Vec3::ZERO, Vec3::ONE).map(srgb_to_linear)
}

/// White, cream or light grey.
fn pale(rng: &mut ChaCha8Rng) -> Vec3 {
    let level = rng.random_range(0.75..0.98_f32);
    let warm = rng.random_range(-0.03..0.06_f32);
    from_srgb(level + warm * 0.5, level, level - warm)
}

/// Any colour of moderate saturation.
fn any_color(rng: &mut ChaCha8Rng) -> Vec3 {
    let hue = rng.random_range(0.0..6.0_f32);
    let saturation = rng.random_range(0.0..0.6_f32);
    let value = rng.random_range(0.15..0.95_f32);
    let channel = |shift: f32| {
        let k = (shift + hue).rem_euclid(6.0);
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    };
    from_srgb(channel(5.0), channel(3.0), channel(1.0))
}

fn wood(rng: &mut ChaCha8Rng) -> Vec3 {
    let dark = from_srgb(0.30, 0.18, 0.10);
    let light = from_srgb(0.85, 0.68, 0.47);
    dark.lerp(light, rng.random()) * Vec3::new(1.0, rng.random_range(0.85..1.0), rng.random_range(0.7..1.0))
}
