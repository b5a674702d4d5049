//! Textures: decoded pixels with smaller copies (mip levels), sampled bilinearly in linear light.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use glam::{Vec2, Vec3};

/// Textures are shrunk to this edge before use: images of the catalogue have a quarter of it.
const MAX_EDGE: u32 = 1024;

/// sRGB byte -> linear light in 0..=1.
static LINEAR: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|i| srgb_to_linear(i as f32 / 255.0)));

/// Converts one sRGB channel in 0..=1 to linear light in 0..=1.
pub(crate) fn srgb_to_linear(value: f32) -> f32 {
    if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// Converts one channel of linear light to sRGB, both in 0..=1.
pub(crate) fn linear_to_srgb(value: f32) -> f32 {
    if value <= 0.003_130_8 { value * 12.92 } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 }
}

/// A picture that repeats in both directions.
pub(crate) struct Texture {
    /// Level 0 is the picture, every further level has half the edge of the one before.
    levels: Vec<image::RgbaImage>,
    /// Whether some texel is transparent.
    pub(crate) has_alpha: bool,
}

/// What a texture holds at one place.
pub(crate) struct Texel {
    /// Linear RGB, 0..=1.
    pub(crate) color: Vec3,
    /// 0 (invisible) to 1.
    pub(crate) alpha: f32,
}

impl Texture {
    /// Decodes a picture, whatever the extension of its name says.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format()?;
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(512 << 20);
        reader.limits(limits);
        let decoded = reader.decode().context("cannot decode the picture")?;
        ensure!(decoded.width() > 0 && decoded.height() > 0, "the picture has no pixels");
        let picture = if decoded.width().max(decoded.height()) > MAX_EDGE {
            decoded.resize(MAX_EDGE, MAX_EDGE, image::imageops::FilterType::Triangle).into_rgba8()
        } else {
            decoded.into_rgba8()
        };
        Ok(Self::new(picture))
    }

    fn new(picture: image::RgbaImage) -> Self {
        let has_alpha = picture.pixels().any(|p| p.0[3] < 250);
        let mut levels = vec![picture];
        while let Some(last) = levels.last()
            && last.width().max(last.height()) > 1
        {
            let (width, height) = ((last.width() / 2).max(1), (last.height() / 2).max(1));
            levels.push(image::imageops::thumbnail(last, width, height));
        }
        Self { levels, has_alpha }
    }

    /// Width and height of the full picture in texels.
    pub(crate) fn size(&self) -> Vec2 {
        let (width, height) = self.levels[0].dimensions();
        Vec2::new(width as f32, height as f32)
    }

    /// Samples at `uv` (origin bottom left, repeating) from the level `lod` (0 = full size).
    pub(crate) fn sample(&self, uv: Vec2, lod: f32) -> Texel {
        let level = &self.levels[(lod.max(0.0).round() as usize).min(self.levels.len() - 1)];
        let (width, height) = level.dimensions();
        let x = (uv.x - uv.x.floor()) * width as f32 - 0.5;
        let y = (1.0 - (uv.y - uv.y.floor())) * height as f32 - 0.5;
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let column = |step: i32| (x0 as i32 + step).rem_euclid(width as i32) as u32;
        let row = |step: i32| (y0 as i32 + step).rem_euclid(height as i32) as u32;
        let mut color = Vec3::ZERO;
        let mut alpha = 0.0;
        for (dx, dy, weight) in [
            (0, 0, (1.0 - fx) * (1.0 - fy)),
            (1, 0, fx * (1.0 - fy)),
            (0, 1, (1.0 - fx) * fy),
            (1, 1, fx * fy),
        ] {
            let [r, g, b, a] = level.get_pixel(column(dx), row(dy)).0;
            color += weight * Vec3::new(LINEAR[r as usize], LINEAR[g as usize], LINEAR[b as usize]);
            alpha += weight * f32::from(a) / 255.0;
        }
        Texel { color, alpha }
    }
}
