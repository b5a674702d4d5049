//! Renders a piece in a scene: visibility at twice the resolution, light, backdrop, average, sRGB.

use glam::{Vec2, Vec3};
use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::backdrop::Backdrop;
use super::camera::Camera;
use super::mesh::Mesh;
use super::raster::{Fragment, NOTHING, Projected, ShadowMap, Visibility, for_each_fragment};
use super::scene::{Scene, Shape};
use super::shade::Shader;
use super::texture::linear_to_srgb;

/// Every pixel is the mean of this many places squared.
const OVERSAMPLING: usize = 2;

/// Renders one picture of `edge` x `edge` pixels.
pub(crate) fn render(mesh: &Mesh, shape: &Shape, scene: &Scene, edge: u32) -> RgbImage {
    let edge = edge as usize;
    let fine = edge * OVERSAMPLING;
    let center = Vec3::new(0.0, mesh.size.y * 0.5, 0.0);
    let radius = mesh.size.length() * 0.5;
    let camera = Camera::framing(&scene.viewpoint, &mesh.positions, center, radius);
    let projected: Vec<Projected> = mesh.positions.iter().map(|&p| to_pixels(&camera, p, fine)).collect();
    let shadows = ShadowMap::new(mesh, scene.light.direction, center, radius, edge);
    let shader =
        Shader { mesh, projected: &projected, light: &scene.light, shadows: &shadows, eye: camera.eye };

    let visible = Visibility::draw(mesh, &projected, fine, |fragment| !shader.is_cut_out(fragment));
    let backdrop = render_backdrop(scene, &camera, shape, &shader, radius, edge);
    let mut light: Vec<Vec3> = (0..fine * fine)
        .map(|place| {
            let fragment = &visible.fragments[place];
            if fragment.triangle == NOTHING {
                backdrop[place / fine / OVERSAMPLING * edge + place % fine / OVERSAMPLING]
            } else {
                shader.color(fragment).0
            }
        })
        .collect();
    blend_transparent(mesh, &projected, &visible, &shader, &mut light);
    develop(&light, edge, scene)
}

fn to_pixels(camera: &Camera, point: Vec3, edge: usize) -> Projected {
    let seen = camera.project(point);
    let half = edge as f32 * 0.5;
    Vec3::new(half + seen.x * half, half - seen.y * half, seen.z)
}

/// Light from behind the piece, one value per pixel of the final picture.
fn render_backdrop(
    scene: &Scene,
    camera: &Camera,
    shape: &Shape,
    shader: &Shader<'_>,
    radius: f32,
    edge: usize,
) -> Vec<Vec3> {
    let stage = Stage {
        scene,
        shader,
        radius,
        // Furniture above the floor hangs; the floor is where it would be in a room.
        floor: -shape.elevation,
        half: Vec2::new(shape.size.x, shape.size.z) * 0.5,
        pixel_angle: camera.angle_of(2.0 / edge as f32),
    };
    let middle = |index: usize| (index as f32 + 0.5) / edge as f32 * 2.0 - 1.0;
    (0..edge * edge)
        .map(|index| {
            let place = Vec2::new(middle(index % edge), -middle(index / edge));
            stage.light_from(place, camera.eye, camera.ray(place))
        })
        .collect()
}

/// The surroundings of a piece.
struct Stage<'a> {
    scene: &'a Scene,
    shader: &'a Shader<'a>,
    radius: f32,
    /// Height of the floor in the piece's coordinates.
    floor: f32,
    /// Half of the piece's width and depth.
    half: Vec2,
    pixel_angle: f32,
}

impl Stage<'_> {
    /// Linear RGB seen from `eye` along `ray`, at `place` of the picture.
    fn light_from(&self, place: Vec2, eye: Vec3, ray: Vec3) -> Vec3 {
        let down = (self.floor - eye.y) / ray.y;
        let floor = (down > 0.0).then(|| eye + ray * down);
        match &self.scene.backdrop {
            Backdrop::Plain { color, shadow } => *color * self.studio_shadow(floor, *shadow),
            Backdrop::Gradient { low, high, direction, shadow } => {
                let share = direction.map_or_else(|| place.length() * 0.7, |d| 0.5 + 0.35 * d.dot(place));
                low.lerp(*high, share.clamp(0.0, 1.0)) * self.studio_shadow(floor, *shadow)
            }
            Backdrop::Room { floor: covering, wall, walls } => {
                let mut nearest = if down > 0.0 { down } else { f32::INFINITY };
                let mut hit = None;
                for side in walls {
                    // The plane n·p = -distance; only a wall that faces the eye is in the way.
                    let facing = ray.dot(side.normal);
                    let distance = (-side.distance * self.radius - eye.dot(side.normal)) / facing;
                    if facing < 0.0 && distance > 0.0 && distance < nearest {
                        nearest = distance;
                        hit = Some(side.normal);
                    }
                }
                let point = eye + ray * nearest;
                let Some(normal) = hit else {
                    return floor
                        .map_or(wall.color(Vec2::ZERO, 1e3), |p| self.floor_light(covering, p, ray, down));
                };
                let along = Vec3::new(normal.z, 0.0, -normal.x).dot(point);
                let footprint = nearest * self.pixel_angle / ray.dot(normal).abs().max(0.05);
                let skirting = point.y - self.floor;
                let color = if skirting < 7.0 {
                    Vec3::splat(0.7)
                } else {
                    wall.color(Vec2::new(along, point.y), footprint)
                };
                let corner = 1.0 - 0.25 * (-skirting / 30.0).exp();
                color * self.shader.irradiance(point, normal, 2) * corner
            }
            Backdrop::Outdoors { ground, horizon, zenith, haze } => {
                let sky = horizon.lerp(*zenith, ray.y.max(0.0).sqrt());
                let Some(point) = floor else { return sky };
                let far = 1.0 - (-down / (self.radius * 60.0) * haze).exp();
                self.floor_light(ground, point, ray, down).lerp(*horizon, far)
            }
        }
    }

    fn floor_light(
        &self,
        covering: &super::backdrop::Surface,
        point: Vec3,
        ray: Vec3,
        distance: f32,
    ) -> Vec3 {
        let footprint = distance * self.pixel_angle / ray.y.abs().max(0.02);
        let color = covering.color(Vec2::new(point.x, point.z), footprint);
        color * self.shader.irradiance(point, Vec3::Y, 2) * self.contact(point)
    }

    /// Factor on a studio's backdrop where the piece shades the invisible floor.
    fn studio_shadow(&self, floor: Option<Vec3>, strength: f32) -> f32 {
        let Some(point) = floor.filter(|_| strength > 0.0) else { return 1.0 };
        let lit = self.shader.shadows.lit(point, 2, self.scene.light.softness);
        let shade = 1.0 - lit * self.contact(point);
        1.0 - strength * shade
    }

    /// Ambient light that still reaches the floor beside and under the piece, 0..=1.
    fn contact(&self, point: Vec3) -> f32 {
        let outside = (Vec2::new(point.x, point.z).abs() - self.half).max(Vec2::ZERO).length();
        let gap = -self.floor;
        let reach = 0.12 * self.radius;
        1.0 - 0.5 * (-(outside / reach)).exp() * (-gap / reach).exp()
    }
}

/// Blends glass and the like over what lies behind it, far faces first.
fn blend_transparent(
    mesh: &Mesh,
    projected: &[Projected],
    visible: &Visibility,
    shader: &Shader<'_>,
    light: &mut [Vec3],
) {
    let nearness = |index: &u32| -> f32 {
        mesh.triangles[*index as usize].points.iter().map(|&p| projected[p as usize].z).sum()
    };
    let mut faces: Vec<u32> = (0..mesh.triangles.len() as u32)
        .filter(|&index| mesh.materials[mesh.triangles[index as usize].material].is_see_through())
        .collect();
    faces.sort_by(|a, b| nearness(a).total_cmp(&nearness(b)).then(a.cmp(b)));
    for index in faces {
        let corners = mesh.triangles[index as usize].points.map(|p| projected[p as usize]);
        for_each_fragment(index, corners, visible.edge, |place, fragment: Fragment| {
            if fragment.nearness > visible.fragments[place].nearness {
                let (color, opacity) = shader.color(&fragment);
                light[place] = light[place].lerp(color, opacity);
            }
        });
    }
}

/// Averages the fine picture, and applies exposure, blur, noise and the sRGB curve.
fn develop(light: &[Vec3], edge: usize, scene: &Scene) -> RgbImage {
    let fine = edge * OVERSAMPLING;
    let mut mean = vec![Vec3::ZERO; edge * edge];
    for (place, value) in light.iter().enumerate() {
        mean[place / fine / OVERSAMPLING * edge + place % fine / OVERSAMPLING] +=
            shoulder(*value * scene.exposure);
    }
    let scale = 1.0 / (OVERSAMPLING * OVERSAMPLING) as f32;
    let mut picture = RgbImage::new(edge as u32, edge as u32);
    let mut rng = ChaCha8Rng::seed_from_u64(scene.noise_seed);
    for (pixel, value) in picture.pixels_mut().zip(mean) {
        let grain = if scene.noise > 0.0 {
            // The sum of three even draws is close enough to a normal one.
            Vec3::from_array(std::array::from_fn(|_| {
                rng.random::<f32>() + rng.random::<f32>() + rng.random::<f32>() - 1.5
            })) * (2.0 * scene.noise)
        } else {
            Vec3::ZERO
        };
        let srgb = (value * scale).map(linear_to_srgb) + grain;
        *pixel = Rgb(srgb.to_array().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8));
    }
    if scene.blur >= 0.3 { image::imageops::blur(&picture, scene.blur) } else { picture }
}

/// Lets bright light run into white softly instead of cutting it off.
fn shoulder(value: Vec3) -> Vec3 {
    value.max(Vec3::ZERO).map(|v| if v <= 0.7 { v } else { 0.7 + 0.3 * (1.0 - (-(v - 0.7) / 0.3).exp()) })
}
