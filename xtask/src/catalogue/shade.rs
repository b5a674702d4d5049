//! Light on surfaces: ambient light from above and below, one main light with shadow, highlights.

use glam::{Vec2, Vec3};

use super::mesh::{Mesh, Triangle};
use super::raster::{Fragment, Projected, ShadowMap};
use super::scene::Light;
use super::texture::Texel;

/// Everything that the colour of a place depends on.
pub(crate) struct Shader<'a> {
    pub(crate) mesh: &'a Mesh,
    /// Corners in pixels, for choosing the texture's level.
    pub(crate) projected: &'a [Projected],
    pub(crate) light: &'a Light,
    pub(crate) shadows: &'a ShadowMap,
    pub(crate) eye: Vec3,
}

impl Shader<'_> {
    /// Whether the texture has a hole at this place.
    pub(crate) fn is_cut_out(&self, fragment: &Fragment) -> bool {
        let triangle = &self.mesh.triangles[fragment.triangle as usize];
        let texture = self.mesh.materials[triangle.material].texture.map(|i| &self.mesh.textures[i]);
        texture.is_some_and(|t| t.has_alpha)
            && self.texel(triangle, fragment.weights).is_some_and(|texel| texel.alpha < 0.5)
    }

    /// Linear RGB that the place sends to the eye, and its opacity 0..=1.
    pub(crate) fn color(&self, fragment: &Fragment) -> (Vec3, f32) {
        let triangle = &self.mesh.triangles[fragment.triangle as usize];
        let material = &self.mesh.materials[triangle.material];
        let weights = fragment.weights;
        let corners = triangle.points.map(|i| self.mesh.positions[i as usize]);
        let point = mix(corners, weights);
        let to_eye = (self.eye - point).normalize();
        let mut normal = mix(triangle.normals, weights).normalize_or(Vec3::Y);
        if normal.dot(to_eye) < 0.0 {
            normal = -normal;
        }
        let texel = self.texel(triangle, weights).unwrap_or(Texel { color: Vec3::ONE, alpha: 1.0 });

        let lit = self.shadow(point, normal);
        let diffuse = material.diffuse * texel.color * self.incoming(normal, lit);
        let fresnel = (1.0 - normal.dot(to_eye).clamp(0.0, 1.0)).powi(4);
        let gloss = material.specular * self.mirrored(material.shininess, normal, to_eye, lit, fresnel);
        let glow = material.emissive * 0.6;
        let opacity = material.opacity * texel.alpha;
        (diffuse + gloss + glow, (opacity + 0.35 * fresnel * opacity.signum()).min(1.0))
    }

    /// What a polished surface mirrors: the main light, and the surroundings, brighter above than below.
    fn mirrored(&self, shininess: f32, normal: Vec3, to_eye: Vec3, lit: f32, fresnel: f32) -> Vec3 {
        let half = (self.light.direction + to_eye).normalize_or(normal);
        let highlight = lit * normal.dot(half).max(0.0).powf(shininess);
        let height = (2.0 * normal.dot(to_eye) * normal - to_eye).y * 0.5 + 0.5;
        let around = self.light.ground.lerp(self.light.sky, height * height * (3.0 - 2.0 * height));
        let polish = (shininess / 120.0).clamp(0.1, 1.0);
        self.light.key * highlight * 0.6 + around * polish * (0.12 + 0.5 * fresnel)
    }

    /// Light that a matt white surface sends back, with the piece's shadow sampled `taps` wide.
    pub(crate) fn irradiance(&self, point: Vec3, normal: Vec3, taps: i32) -> Vec3 {
        let lit = self.shadows.lit(point, taps, self.light.softness);
        self.incoming(normal, lit)
    }

    fn incoming(&self, normal: Vec3, lit: f32) -> Vec3 {
        let ambient = self.light.ground.lerp(self.light.sky, normal.y * 0.5 + 0.5);
        let direct = normal.dot(self.light.direction).max(0.0) * lit;
        // Parts in shadow also lose some of the light from around.
        ambient * (0.62 + 0.18 * lit) + self.light.key * direct
    }

    fn shadow(&self, point: Vec3, normal: Vec3) -> f32 {
        if normal.dot(self.light.direction) <= 0.0 {
            return 0.0;
        }
        self.shadows.lit(point + normal * self.shadows.normal_offset(), 1, self.light.softness)
    }

    fn texel(&self, triangle: &Triangle, weights: Vec2) -> Option<Texel> {
        let texture = &self.mesh.textures[self.mesh.materials[triangle.material].texture?];
        let [a, b, c] = triangle.uvs;
        let uv = a + (b - a) * weights.x + (c - a) * weights.y;
        let texels = ((b - a) * texture.size()).perp_dot((c - a) * texture.size()).abs();
        let [pa, pb, pc] = triangle.points.map(|i| self.projected[i as usize].truncate());
        let pixels = (pb - pa).perp_dot(pc - pa).abs().max(1e-6);
        // Half of log2 of the texels per pixel; the piece's own size in the picture decides sharpness.
        let lod = 0.5 * (texels / pixels).max(1e-6).log2();
        Some(texture.sample(uv, lod))
    }
}

fn mix(corners: [Vec3; 3], weights: Vec2) -> Vec3 {
    let [a, b, c] = corners;
    a + (b - a) * weights.x + (c - a) * weights.y
}
