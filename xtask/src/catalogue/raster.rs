//! Which triangle is seen at which place: scan conversion by `retrofire-core`, depth tests here.
//!
//! The crate's own frame buffer knows neither cut-out textures nor blending; its scan converter serves all three uses:
//! the picture's opaque faces, its transparent faces and the shadow map.

use glam::{Vec2, Vec3};
use retrofire_core::geom::Vertex;
use retrofire_core::math::point::pt3;
use retrofire_core::render::raster::{ScreenPt, tri_fill};

use super::mesh::Mesh;

/// Marks a place where nothing is seen.
pub(crate) const NOTHING: u32 = u32::MAX;

/// What is seen at one place: a triangle and where on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment {
    /// Index into [`Mesh::triangles`], or [`NOTHING`].
    pub(crate) triangle: u32,
    /// 1 / distance along the camera's axis; larger is nearer.
    pub(crate) nearness: f32,
    /// Weights of the second and third corner; the first has the rest.
    pub(crate) weights: Vec2,
}

/// A point in pixel coordinates (y down), and its 1 / depth.
pub(crate) type Projected = Vec3;

/// A square of fragments, the nearest opaque one at each place.
pub(crate) struct Visibility {
    /// Pixels along an edge.
    pub(crate) edge: usize,
    pub(crate) fragments: Vec<Fragment>,
}

impl Visibility {
    /// Everything that `keep` accepts; it is asked once per covered place that passes the depth test.
    pub(crate) fn draw(
        mesh: &Mesh,
        projected: &[Projected],
        edge: usize,
        mut keep: impl FnMut(&Fragment) -> bool,
    ) -> Self {
        let empty = Fragment { triangle: NOTHING, nearness: 0.0, weights: Vec2::ZERO };
        let mut fragments = vec![empty; edge * edge];
        for (index, triangle) in mesh.triangles.iter().enumerate() {
            if mesh.materials[triangle.material].is_see_through() {
                continue;
            }
            let corners = triangle.points.map(|i| projected[i as usize]);
            for_each_fragment(index as u32, corners, edge, |place, fragment| {
                let seen = &mut fragments[place];
                if fragment.nearness > seen.nearness && keep(&fragment) {
                    *seen = fragment;
                }
            });
        }
        Self { edge, fragments }
    }
}

/// Calls `visit` with the index (row by row) and the fragment of every place that the triangle covers.
pub(crate) fn for_each_fragment(
    triangle: u32,
    corners: [Projected; 3],
    edge: usize,
    mut visit: impl FnMut(usize, Fragment),
) {
    let vertex = |corner: Projected, second: f32, third: f32| Vertex {
        pos: pt3(corner.x, corner.y, corner.z) as ScreenPt,
        // Divided by depth, so that they vary linearly over the screen.
        attrib: (second * corner.z, third * corner.z),
    };
    let [a, b, c] = corners;
    tri_fill([vertex(a, 0.0, 0.0), vertex(b, 1.0, 0.0), vertex(c, 0.0, 1.0)], |line| {
        if line.y >= edge {
            return;
        }
        for (x, (point, (second, third))) in line.xs.zip(line.vs) {
            let nearness = point.z();
            if x < edge && nearness > 0.0 {
                // Rounding may leave a place at the rim a little outside of the triangle.
                let weights = (Vec2::new(second, third) / nearness).clamp(Vec2::ZERO, Vec2::ONE);
                visit(line.y * edge + x, Fragment { triangle, nearness, weights });
            }
        }
    });
}

/// Places of the shadow map are summed up in squares of this edge, so that most lookups need no sample.
const BLOCK: usize = 16;

/// How near to the light the first surface is, seen along parallel rays of light.
pub(crate) struct ShadowMap {
    edge: usize,
    /// Distance towards the light, in `radius`; [`f32::NEG_INFINITY`] where nothing is hit.
    heights: Vec<f32>,
    /// Blocks along an edge.
    blocks: usize,
    /// For every block the greatest height in it and its neighbours: nothing near it is shaded above that.
    ceilings: Vec<f32>,
    center: Vec3,
    radius: f32,
    side: Vec3,
    up: Vec3,
    /// Unit vector towards the light.
    light: Vec3,
}

impl ShadowMap {
    /// Looks at `mesh`, inside of this sphere, from the direction `light` (unit vector towards the light).
    pub(crate) fn new(mesh: &Mesh, light: Vec3, center: Vec3, radius: f32, edge: usize) -> Self {
        let (side, up) = light.any_orthonormal_pair();
        let heights = vec![f32::NEG_INFINITY; edge * edge];
        let mut map =
            Self { edge, heights, blocks: 0, ceilings: Vec::new(), center, radius, side, up, light };
        let seen: Vec<Vec3> = mesh.positions.iter().map(|&position| map.locate(position)).collect();
        for triangle in &mesh.triangles {
            // Glass lets light through.
            if mesh.materials[triangle.material].is_see_through() {
                continue;
            }
            let corners = triangle.points.map(|i| seen[i as usize]);
            let heights = &mut map.heights;
            tri_fill(corners.map(|p| Vertex { pos: pt3(p.x, p.y, p.z) as ScreenPt, attrib: () }), |line| {
                if line.y >= edge {
                    return;
                }
                for (x, (point, ())) in line.xs.zip(line.vs) {
                    if x < edge {
                        let height = &mut heights[line.y * edge + x];
                        *height = height.max(point.z());
                    }
                }
            });
        }
        map.summarize();
        map
    }

    fn summarize(&mut self) {
        self.blocks = self.edge.div_ceil(BLOCK);
        let blocks = self.blocks;
        let mut own = vec![f32::NEG_INFINITY; blocks * blocks];
        for (place, height) in self.heights.iter().enumerate() {
            let block = &mut own[place / self.edge / BLOCK * blocks + place % self.edge / BLOCK];
            *block = block.max(*height);
        }
        let around = |index: usize| index.saturating_sub(1)..(index + 2).min(blocks);
        self.ceilings = (0..blocks * blocks)
            .map(|block| {
                let places =
                    around(block / blocks).flat_map(|y| around(block % blocks).map(move |x| y * blocks + x));
                places.map(|place| own[place]).fold(f32::NEG_INFINITY, f32::max)
            })
            .collect();
    }

    /// How far in centimetres a surface point is lifted before it is looked up, so that slanted faces do not shadow
    /// themselves.
    pub(crate) fn normal_offset(&self) -> f32 {
        self.radius * 2.5 / self.edge as f32
    }

    /// Pixel coordinates in the map and the height towards the light.
    fn locate(&self, point: Vec3) -> Vec3 {
        let offset = (point - self.center) / self.radius;
        let half = self.edge as f32 * 0.5;
        // The sphere keeps 4 % away from the rim.
        Vec3::new(
            half + offset.dot(self.side) * half * 0.96,
            half + offset.dot(self.up) * half * 0.96,
            offset.dot(self.light),
        )
    }

    /// Share of the light that reaches `point`, 0..=1, averaged over a square of `(2 * taps + 1)²` samples that are
    /// `spread` map pixels apart; `taps * spread` may reach one block far.
    pub(crate) fn lit(&self, point: Vec3, taps: i32, spread: f32) -> f32 {
        let place = self.locate(point);
        let reach = taps as f32 * spread + 1.0;
        let edge = self.edge as f32;
        if place.x < -reach || place.y < -reach || place.x > edge + reach || place.y > edge + reach {
            return 1.0;
        }
        // A surface must not shadow itself; wider samples lie further up on slanted surfaces.
        let bias = 0.012 + 0.004 * spread;
        let block = |at: f32| (at.max(0.0) as usize / BLOCK).min(self.blocks - 1);
        if self.ceilings[block(place.y) * self.blocks + block(place.x)] <= place.z + bias {
            return 1.0;
        }
        let (mut lit, mut count) = (0.0, 0.0);
        for dy in -taps..=taps {
            for dx in -taps..=taps {
                let (x, y) = (place.x + dx as f32 * spread, place.y + dy as f32 * spread);
                let inside = x >= 0.0 && y >= 0.0 && x < edge && y < edge;
                let blocked = inside && self.heights[y as usize * self.edge + x as usize] > place.z + bias;
                lit += f32::from(u8::from(!blocked));
                count += 1.0;
            }
        }
        lit / count
    }
}
