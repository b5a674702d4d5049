//! The camera of one view: where it stands, and how the picture is framed so that nothing is cut off.

use glam::{Mat3, Vec2, Vec3};

/// How a view looks at a piece; angles in radians.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Viewpoint {
    /// 0 looks at the front; positive walks to the piece's left (its +x side).
    pub(crate) azimuth: f32,
    /// Height of the camera above the piece's centre.
    pub(crate) elevation: f32,
    pub(crate) roll: f32,
    /// Angle under which the sphere around the piece appears: small is a far camera with a long lens.
    pub(crate) opening: f32,
    /// Part of the picture's edge that the piece spans, 0..1.
    pub(crate) fill: f32,
    /// Where in the free margin the piece sits, each -1..=1; 0 is the middle.
    pub(crate) shift: Vec2,
}

/// A perspective camera for square pictures.
#[derive(Clone, Debug)]
pub(crate) struct Camera {
    pub(crate) eye: Vec3,
    /// Rows: right, up, forward.
    axes: Mat3,
    /// Picture coordinates (-1..=1) = direction / depth * zoom + offset.
    zoom: f32,
    offset: Vec2,
}

impl Camera {
    /// Places a camera that sees all of `points` (whose box has this `center`, and sphere this `radius`).
    pub(crate) fn framing(view: &Viewpoint, points: &[Vec3], center: Vec3, radius: f32) -> Self {
        let (sin_a, cos_a) = view.azimuth.sin_cos();
        let (sin_e, cos_e) = view.elevation.sin_cos();
        let back = Vec3::new(sin_a * cos_e, sin_e, cos_a * cos_e);
        let right = Vec3::new(cos_a, 0.0, -sin_a);
        let up = back.cross(right);
        let (sin_r, cos_r) = view.roll.sin_cos();
        let axes = Mat3::from_cols(right * cos_r + up * sin_r, up * cos_r - right * sin_r, -back).transpose();
        let eye = center + back * (radius / (view.opening * 0.5).sin());
        let mut camera = Self { eye, axes, zoom: 1.0, offset: Vec2::ZERO };
        let project = |point: &Vec3| camera.project(*point).truncate();
        let low = points.iter().map(project).fold(Vec2::INFINITY, Vec2::min);
        let high = points.iter().map(project).fold(Vec2::NEG_INFINITY, Vec2::max);
        let extent = (high - low).max(Vec2::splat(1e-6));
        camera.zoom = 2.0 * view.fill / extent.max_element();
        let margin = (Vec2::ONE - extent * camera.zoom * 0.5 - 0.02).max(Vec2::ZERO);
        camera.offset = view.shift * margin - (low + high) * 0.5 * camera.zoom;
        camera
    }

    /// Picture coordinates (x to the right, y up, -1..=1) and 1 / depth of a point in front of the camera.
    pub(crate) fn project(&self, point: Vec3) -> Vec3 {
        let seen = self.axes * (point - self.eye);
        (seen.truncate() / seen.z * self.zoom + self.offset).extend(1.0 / seen.z)
    }

    /// Unit direction in which the camera sees this place of the picture.
    pub(crate) fn ray(&self, place: Vec2) -> Vec3 {
        let flat = (place - self.offset) / self.zoom;
        (self.axes.transpose() * flat.extend(1.0)).normalize()
    }

    /// Angle that a step of `step` in picture coordinates covers, in radians (for filtering patterns).
    pub(crate) fn angle_of(&self, step: f32) -> f32 {
        step / self.zoom
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cube() -> Vec<Vec3> {
        (0..8).map(|i| Vec3::new((i & 1) as f32, (i >> 1 & 1) as f32, (i >> 2) as f32) * 100.0).collect()
    }

    #[test]
    fn everything_is_framed_from_everywhere() {
        let points = cube();
        for step in 0..40 {
            let turn = step as f32 * 0.7;
            let view = Viewpoint {
                azimuth: turn,
                elevation: turn.sin() * 1.2,
                roll: turn.cos() * 0.2,
                opening: 0.9,
                fill: 0.9,
                shift: Vec2::new(turn.cos(), turn.sin()),
            };
            let camera = Camera::framing(&view, &points, Vec3::splat(50.0), 87.0);
            for point in &points {
                let seen = camera.project(*point);
                assert!(seen.truncate().abs().max_element() < 1.0, "{seen} at {view:?}");
                assert!(seen.z > 0.0);
                let ray = camera.ray(seen.truncate());
                assert!(ray.dot((*point - camera.eye).normalize()) > 0.9999);
            }
        }
    }

    #[test]
    fn the_front_is_not_mirrored() {
        let view =
            Viewpoint { azimuth: 0.0, elevation: 0.0, roll: 0.0, opening: 0.5, fill: 0.8, shift: Vec2::ZERO };
        let camera = Camera::framing(&view, &cube(), Vec3::splat(50.0), 87.0);
        assert!(camera.eye.z > 100.0, "azimuth 0 stands in front, on the +z side");
        assert!(camera.project(Vec3::new(100.0, 50.0, 50.0)).x > 0.0, "+x is on the right");
        assert!(camera.project(Vec3::new(50.0, 100.0, 50.0)).y > 0.0, "+y is at the top");
    }
}
