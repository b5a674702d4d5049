//! Small pictures of coloured shapes: classes differ in shape and colour, views of one class in place, size, turn, light
//! and background. The same seed gives the same bytes.

use std::{
    f32::consts::{PI, TAU},
    io::Cursor,
    path::Path,
};

use image::{ImageFormat, Rgb, RgbImage, codecs::jpeg::JpegEncoder};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Side of a picture in pixels. Width differs from height, so that a mix-up of the two shows.
const HEIGHT: u32 = 96;
const WIDTH: u32 = 112;
const JPEG_QUALITY: u8 = 90;
/// Samples per pixel along each axis, for smooth edges.
const SAMPLES: u32 = 2;

/// One view of one class.
pub fn view(class: u64, view: u64) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(class * 1_000_003 + view);
    let ink = colour(class, rng.random_range(0.8..1.0));
    let ground =
        [rng.random_range(150.0..245.0), rng.random_range(150.0..245.0), rng.random_range(150.0..245.0)];
    let shape = Shape {
        kind: class % 6,
        centre: (rng.random_range(0.4..0.6) * WIDTH as f32, rng.random_range(0.4..0.6) * HEIGHT as f32),
        radius: rng.random_range(0.28..0.4) * HEIGHT as f32,
        turn: rng.random_range(-0.35..0.35),
    };
    let mut noise = ChaCha8Rng::seed_from_u64(class * 7_919 + view);
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let cover = shape.cover(x, y);
        let grain: f32 = noise.random_range(-6.0..6.0);
        Rgb([0, 1, 2].map(|channel| (ground[channel] * (1.0 - cover) + ink[channel] * cover + grain) as u8))
    })
}

/// The view as a JPEG file's bytes.
pub fn jpeg(class: u64, number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    view(class, number).write_with_encoder(encoder).expect("encoding into memory");
    bytes
}

/// The view as a PNG file's bytes.
pub fn png(class: u64, number: u64) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    view(class, number).write_to(&mut bytes, ImageFormat::Png).expect("encoding into memory");
    bytes.into_inner()
}

/// Writes the views `views` of each of `classes` below `root` in the layout of Stanford Online Products, and the list
/// `root/list`, whose lines are `image_id class_id super_class_id path`. Returns the paths, relative to `root`.
pub fn write_list(root: &Path, list: &str, classes: &[u64], views: std::ops::Range<u64>) -> Vec<String> {
    let mut text = String::from("image_id class_id super_class_id path\n");
    let mut paths = Vec::new();
    for &class in classes {
        let folder = format!("{}_final", SHAPES[(class % 6) as usize]);
        fs_err::create_dir_all(root.join(&folder)).expect("create folder");
        for view in views.clone() {
            let path = format!("{folder}/{class}_{view}.JPG");
            fs_err::write(root.join(&path), jpeg(class, view)).expect("write picture");
            text += &format!("{} {class} {} {path}\n", paths.len() + 1, class % 6 + 1);
            paths.push(path);
        }
    }
    fs_err::write(root.join(list), text).expect("write list");
    paths
}

/// Names of the shapes; a class's shape is its number modulo 6.
pub const SHAPES: [&str; 6] = ["disc", "square", "triangle", "ring", "cross", "star"];

struct Shape {
    kind: u64,
    centre: (f32, f32),
    radius: f32,
    turn: f32,
}

impl Shape {
    /// How much of a pixel the shape covers, 0 to 1.
    fn cover(&self, x: u32, y: u32) -> f32 {
        let step = 1.0 / SAMPLES as f32;
        let inside = (0..SAMPLES * SAMPLES)
            .filter(|sample| {
                let dx = (sample % SAMPLES) as f32 * step + step / 2.0;
                let dy = (sample / SAMPLES) as f32 * step + step / 2.0;
                self.contains(x as f32 + dx, y as f32 + dy)
            })
            .count();
        inside as f32 / (SAMPLES * SAMPLES) as f32
    }

    fn contains(&self, x: f32, y: f32) -> bool {
        let (x, y) = ((x - self.centre.0) / self.radius, (y - self.centre.1) / self.radius);
        let (sin, cos) = self.turn.sin_cos();
        let (x, y) = (x * cos + y * sin, y * cos - x * sin);
        let distance = x.hypot(y);
        match self.kind {
            0 => distance < 1.0,
            1 => x.abs().max(y.abs()) < 0.85,
            2 => y < 0.7 && 1.75 * x.abs() < y + 1.0,
            3 => (0.55..1.0).contains(&distance),
            4 => x.abs().min(y.abs()) < 0.3 && x.abs().max(y.abs()) < 1.0,
            _ => distance < 0.45 + 0.55 * (5.0 * (y.atan2(x) + PI / 2.0)).cos().max(0.0),
        }
    }
}

/// Hues spread over the circle by the golden ratio, so that neighbouring classes differ.
fn colour(class: u64, light: f32) -> [f32; 3] {
    let hue = (class as f32 * 0.618_034).fract() * TAU;
    [0.0, TAU / 3.0, 2.0 * TAU / 3.0].map(|phase| 215.0 * light * (0.5 + 0.5 * (hue - phase).cos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_views_differ() {
        assert_eq!(jpeg(3, 1), jpeg(3, 1));
        assert_ne!(jpeg(3, 1), jpeg(3, 2));
        assert_ne!(jpeg(3, 1), jpeg(4, 1));
        let shown = image::load_from_memory(&png(3, 1)).expect("a PNG file").into_rgb8();
        assert_eq!(shown, view(3, 1));
    }
}
