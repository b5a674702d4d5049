//! What is drawn by lot for one view: camera, light, backdrop and the photographer's hand.

use glam::{Vec2, Vec3};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::backdrop::Backdrop;
use super::camera::Viewpoint;

/// Which kind of picture a view is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ViewKind {
    /// As a shop shows it: often a studio, well lit, filling the picture.
    Gallery,
    /// As a customer photographs it: mostly in a room or outdoors, uneven light, less careful.
    Query,
}

/// What the draw needs to know about a piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Width, height, depth in centimetres.
    pub(crate) size: Vec3,
    /// Height above the floor in centimetres.
    pub(crate) elevation: f32,
}

/// Light on a scene; colours are linear RGB.
#[derive(Clone, Debug)]
pub(crate) struct Light {
    /// Unit vector towards the main light.
    pub(crate) direction: Vec3,
    pub(crate) key: Vec3,
    /// Light from above and from below that comes from everywhere.
    pub(crate) sky: Vec3,
    pub(crate) ground: Vec3,
    /// Distance of shadow samples in pixels of the shadow map: 1 is hard, 4 soft.
    pub(crate) softness: f32,
}

/// Everything that decides the pixels of one view, besides the piece itself.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) viewpoint: Viewpoint,
    pub(crate) light: Light,
    pub(crate) backdrop: Backdrop,
    /// Factor on all light.
    pub(crate) exposure: f32,
    /// Standard deviation of the sensor's noise, in sRGB units of 0..=1.
    pub(crate) noise: f32,
    /// Radius of blur in pixels; below 0.3 none.
    pub(crate) blur: f32,
    /// JPEG quality, 1..=100.
    pub(crate) quality: u8,
    /// Starts the noise.
    pub(crate) noise_seed: u64,
}

/// A generator of its own for every (seed, product, view), so that the order of work does not matter.
pub(crate) fn generator(seed: u64, source_id: &str, purpose: &str, index: usize) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update((source_id.len() as u64).to_le_bytes());
    hash.update(source_id);
    hash.update(purpose);
    hash.update((index as u64).to_le_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

impl Scene {
    /// Draws the scene of view number `index` of a kind.
    pub(crate) fn draw(seed: u64, source_id: &str, kind: ViewKind, index: usize, shape: &Shape) -> Self {
        let purpose = match kind {
            ViewKind::Gallery => "gallery",
            ViewKind::Query => "query",
        };
        let mut rng = generator(seed, source_id, purpose, index);
        let viewpoint = draw_viewpoint(&mut rng, kind, shape);
        let query = kind == ViewKind::Query;
        Self {
            viewpoint,
            light: draw_light(&mut rng, viewpoint.azimuth),
            backdrop: Backdrop::draw(&mut rng, if query { 0.2 } else { 0.5 }, viewpoint.azimuth),
            exposure: if query { rng.random_range(0.6..1.3) } else { rng.random_range(0.8..1.2) },
            noise: if query { rng.random_range(0.0..0.03) } else { rng.random_range(0.0..0.008) },
            blur: if query && rng.random_bool(0.4) { rng.random_range(0.3..0.9) } else { 0.0 },
            quality: if query { rng.random_range(65..90) } else { rng.random_range(82..95) },
            noise_seed: rng.random(),
        }
    }

    /// The same plain scene for every piece, seen from `azimuth`: two pieces that look alike here are one product.
    pub(crate) fn canonical(azimuth: f32) -> Self {
        let viewpoint =
            Viewpoint { azimuth, elevation: 0.35, roll: 0.0, opening: 0.5, fill: 0.95, shift: Vec2::ZERO };
        let light = Light {
            direction: Vec3::new(0.4, 0.8, 0.45).normalize(),
            key: Vec3::splat(0.7),
            sky: Vec3::splat(0.5),
            ground: Vec3::splat(0.4),
            softness: 1.0,
        };
        let backdrop = Backdrop::Plain { color: Vec3::splat(0.5), shadow: 0.0 };
        Self { viewpoint, light, backdrop, exposure: 1.0, noise: 0.0, blur: 0.0, quality: 90, noise_seed: 0 }
    }
}

/// Mostly from the front half, as people and shops look at furniture; flat pieces never from their edge.
fn draw_viewpoint(rng: &mut ChaCha8Rng, kind: ViewKind, shape: &Shape) -> Viewpoint {
    let Vec3 { x: width, y: height, z: depth } = shape.size;
    let query = kind == ViewKind::Query;
    let upright_sheet = depth < 0.2 * width.max(height);
    let lying_sheet = height < 0.12 * width.max(depth);
    let hangs_high = shape.elevation > 120.0;
    let azimuth: f32 = if upright_sheet {
        rng.random_range(-55.0..55.0)
    } else if rng.random_bool(0.8) {
        rng.random_range(-80.0..80.0)
    } else {
        rng.random_range(-180.0..180.0)
    };
    let elevation: f32 = if lying_sheet {
        rng.random_range(30.0..75.0)
    } else if hangs_high {
        rng.random_range(-25.0..25.0)
    } else if rng.random_bool(0.15) {
        rng.random_range(40.0..65.0)
    } else {
        rng.random_range(3.0..40.0)
    };
    let roll: f32 = if query { rng.random_range(-9.0..9.0) } else { rng.random_range(-3.0..3.0) };
    let shift =
        |rng: &mut ChaCha8Rng, by: f32| Vec2::new(rng.random_range(-by..by), rng.random_range(-by..by));
    Viewpoint {
        azimuth: azimuth.to_radians(),
        elevation: elevation.to_radians(),
        roll: roll.to_radians(),
        opening: rng.random_range(20.0_f32..60.0).to_radians(),
        fill: if query { rng.random_range(0.55..0.92) } else { rng.random_range(0.72..0.95) },
        shift: shift(rng, if query { 0.9 } else { 0.4 }),
    }
}

fn draw_light(rng: &mut ChaCha8Rng, azimuth: f32) -> Light {
    let around = azimuth + rng.random_range(-1.4..1.4_f32);
    let height = rng.random_range(0.45..1.3_f32);
    let direction = Vec3::new(around.sin() * height.cos(), height.sin(), around.cos() * height.cos());
    // Warm lamps to cool daylight.
    let warmth = rng.random_range(-1.0..1.0_f32);
    let tint = Vec3::new(1.0 + 0.14 * warmth, 1.0, 1.0 - 0.2 * warmth);
    let contrast = rng.random_range(0.25..0.75_f32);
    let sky_tint = Vec3::new(1.0 - 0.06 * warmth, 1.0, 1.0 + 0.08 * warmth);
    let bounce: f32 = rng.random_range(0.45..0.8);
    let ambient = 1.05 * (1.0 - contrast * 0.75);
    Light {
        direction,
        key: tint * contrast * 1.5,
        sky: sky_tint * ambient,
        ground: Vec3::new(1.0, 0.96, 0.9) * ambient * bounce,
        softness: rng.random_range(0.8..3.5),
    }
}
