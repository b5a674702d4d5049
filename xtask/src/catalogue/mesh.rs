//! Turns a Wavefront OBJ model with its materials into triangles in centimetres, ready to render.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use glam::{Mat3, Vec2, Vec3};

use super::texture::{Texture, srgb_to_linear};

/// Faces that meet at less than this angle share a smooth normal where the file gives none.
const CREASE_COSINE: f32 = 0.7; // 45 degrees

/// How a surface looks.
pub(crate) struct Material {
    /// Linear RGB of diffuse reflection; white where there is a texture.
    pub(crate) diffuse: Vec3,
    /// Linear RGB of mirror-like reflection.
    pub(crate) specular: Vec3,
    /// Linear RGB that the surface emits.
    pub(crate) emissive: Vec3,
    /// Exponent of the highlight, 2..=250.
    pub(crate) shininess: f32,
    /// 1 is solid, 0 invisible.
    pub(crate) opacity: f32,
    /// Index into [`Mesh::textures`].
    pub(crate) texture: Option<usize>,
}

impl Material {
    /// Whether what lies behind shines through (a cut-out texture does not count).
    pub(crate) fn is_see_through(&self) -> bool {
        self.opacity < 0.98
    }
}

/// One triangle; both of its sides are visible.
pub(crate) struct Triangle {
    /// Indices into [`Mesh::positions`].
    pub(crate) points: [u32; 3],
    /// Unit normals at the corners.
    pub(crate) normals: [Vec3; 3],
    /// Texture coordinates at the corners, origin bottom left.
    pub(crate) uvs: [Vec2; 3],
    /// Index into [`Mesh::materials`].
    pub(crate) material: usize,
}

/// A model: x to the right, y up, z towards somebody in front of the piece; centimetres; its box is centred on
/// x = z = 0 and stands on y = 0.
pub(crate) struct Mesh {
    pub(crate) positions: Vec<Vec3>,
    pub(crate) triangles: Vec<Triangle>,
    pub(crate) materials: Vec<Material>,
    pub(crate) textures: Vec<Texture>,
    /// Width, height and depth of the box around all triangles.
    pub(crate) size: Vec3,
}

/// Where a model's files come from: path relative to the model's folder -> content.
pub(crate) type ReadFile<'a> = dyn FnMut(&str) -> Result<Vec<u8>> + 'a;

impl Mesh {
    /// Parses `obj`, reads its materials and textures through `read`, turns it by `rotation` and scales every axis to
    /// `size` (width, height, depth in centimetres), as the library's own viewer does.
    pub(crate) fn load(obj: &[u8], read: &mut ReadFile<'_>, rotation: Mat3, size: Vec3) -> Result<Self> {
        let read_file = std::cell::RefCell::new(read);
        let obj = as_utf8(obj);
        let (models, materials) = match parse(&obj, &read_file) {
            // Some exporters name vertices before they write them.
            Err(
                tobj::LoadError::FaceVertexOutOfBounds
                | tobj::LoadError::FaceTexCoordOutOfBounds
                | tobj::LoadError::FaceNormalOutOfBounds,
            ) => parse(&vertices_first(&obj), &read_file),
            parsed => parsed,
        }
        .context("cannot parse the model")?;
        // A model without its material file is still a shape; tobj keeps such faces without a material.
        let materials = materials.unwrap_or_default();
        let (textures, materials) = load_materials(&materials, *read_file.borrow_mut());
        let mut mesh =
            Self { positions: Vec::new(), triangles: Vec::new(), materials, textures, size: Vec3::ZERO };
        for model in &models {
            mesh.append(&model.mesh)?;
        }
        mesh.drop_invisible();
        ensure!(!mesh.triangles.is_empty(), "the model has no visible face");
        mesh.place(rotation, size)?;
        mesh.complete_normals();
        Ok(mesh)
    }

    fn append(&mut self, part: &tobj::Mesh) -> Result<()> {
        let base = u32::try_from(self.positions.len()).context("too many vertices")?;
        self.positions.extend(part.positions.chunks_exact(3).map(Vec3::from_slice));
        let normal_at = |slot: usize| -> Vec3 {
            let index = part.normal_indices.get(slot).map(|&i| i as usize * 3);
            index.and_then(|i| part.normals.get(i..i + 3)).map_or(Vec3::ZERO, Vec3::from_slice)
        };
        let uv_at = |slot: usize| -> Vec2 {
            let index = part.texcoord_indices.get(slot).map(|&i| i as usize * 2);
            index.and_then(|i| part.texcoords.get(i..i + 2)).map_or(Vec2::ZERO, Vec2::from_slice)
        };
        // The last material is the plain one of faces that name none.
        let plain = self.materials.len() - 1;
        let material = part.material_id.filter(|&id| id < plain).unwrap_or(plain);
        for (face, corner) in part.indices.chunks_exact(3).enumerate() {
            let slots = [face * 3, face * 3 + 1, face * 3 + 2];
            self.triangles.push(Triangle {
                points: [base + corner[0], base + corner[1], base + corner[2]],
                normals: slots.map(normal_at),
                uvs: slots.map(uv_at),
                material,
            });
        }
        Ok(())
    }

    /// Drops faces that cannot be seen or have no area, so that they neither widen the box nor cost time.
    fn drop_invisible(&mut self) {
        let (positions, materials) = (&self.positions, &self.materials);
        self.triangles.retain(|triangle| {
            let [a, b, c] = triangle.points.map(|i| positions[i as usize]);
            let area = (b - a).cross(c - a).length_squared();
            materials[triangle.material].opacity > 0.02 && area.is_finite() && area > 0.0
        });
    }

    fn place(&mut self, rotation: Mat3, size: Vec3) -> Result<()> {
        for position in &mut self.positions {
            *position = rotation * *position;
        }
        let used = || self.triangles.iter().flat_map(|t| t.points).map(|i| self.positions[i as usize]);
        let low = used().fold(Vec3::INFINITY, Vec3::min);
        let high = used().fold(Vec3::NEG_INFINITY, Vec3::max);
        let extent = high - low;
        ensure!(extent.is_finite() && extent.max_element() > 0.0, "the model has no extent");
        // A flat model keeps its missing dimension flat.
        let axis = |extent: f32, size: f32| if extent > 1e-6 { size / extent } else { 1.0 };
        let scale = Vec3::new(axis(extent.x, size.x), axis(extent.y, size.y), axis(extent.z, size.z));
        let origin = Vec3::new((low.x + high.x) * 0.5, low.y, (low.z + high.z) * 0.5);
        for position in &mut self.positions {
            *position = (*position - origin) * scale;
        }
        // Normals go by the inverse transpose; for a rotation and a scaling that is R, then 1 / scale.
        for normal in self.triangles.iter_mut().flat_map(|t| &mut t.normals) {
            *normal = (rotation * *normal / scale).normalize_or_zero();
        }
        self.size = extent * scale;
        Ok(())
    }

    /// Gives corners without a usable normal one: that of the face, smoothed over the neighbours that are not
    /// beyond a crease.
    fn complete_normals(&mut self) {
        let faces: Vec<Vec3> = self.triangles.iter().map(|t| self.face_normal(t)).collect();
        if self.triangles.iter().all(|t| t.normals.iter().all(|n| *n != Vec3::ZERO)) {
            return;
        }
        let mut around: HashMap<u32, Vec<u32>> = HashMap::new();
        for (face, triangle) in self.triangles.iter().enumerate() {
            for point in triangle.points {
                around.entry(point).or_default().push(face as u32);
            }
        }
        for (face, triangle) in self.triangles.iter_mut().enumerate() {
            let own = faces[face];
            for (point, normal) in triangle.points.iter().zip(&mut triangle.normals) {
                if *normal != Vec3::ZERO {
                    continue;
                }
                let neighbours = around.get(point).map_or(&[][..], Vec::as_slice);
                let sum: Vec3 = neighbours
                    .iter()
                    .map(|&other| faces[other as usize])
                    .filter(|other| own.dot(*other) > CREASE_COSINE)
                    .sum();
                *normal = sum.normalize_or(own);
            }
        }
    }

    /// Unit normal of the plane of a triangle, on the side from which its corners run counter-clockwise.
    fn face_normal(&self, triangle: &Triangle) -> Vec3 {
        let [a, b, c] = triangle.points.map(|i| self.positions[i as usize]);
        (b - a).cross(c - a).normalize_or(Vec3::Y)
    }
}

fn parse(obj: &[u8], read: &std::cell::RefCell<&mut ReadFile<'_>>) -> tobj::LoadResult {
    let options =
        tobj::LoadOptions { single_index: false, triangulate: true, ignore_points: true, ignore_lines: true };
    tobj::load_obj_buf(&mut Cursor::new(obj), &options, |path: &Path| {
        let bytes =
            (read.borrow_mut())(&path.to_string_lossy()).map_err(|_| tobj::LoadError::OpenFileFailed)?;
        tobj::load_mtl_buf(&mut Cursor::new(as_utf8(&bytes)))
    })
}

/// The same model with all vertex data at its beginning. Right for absolute numbers only: relative ones count back from
/// where they stand, but never name what comes later.
fn vertices_first(obj: &[u8]) -> Vec<u8> {
    let is_vertex = |line: &&[u8]| [&b"v "[..], b"vt ", b"vn "].iter().any(|start| line.starts_with(start));
    let (vertices, rest): (Vec<&[u8]>, Vec<&[u8]>) = obj.split(|&byte| byte == b'\n').partition(is_vertex);
    [vertices, rest].concat().join(&b'\n')
}

/// Turns the file's materials into ours, and appends a plain grey one for faces that name none.
fn load_materials(parsed: &[tobj::Material], read: &mut ReadFile<'_>) -> (Vec<Texture>, Vec<Material>) {
    let mut textures = Vec::new();
    let mut known: HashMap<String, Option<usize>> = HashMap::new();
    let mut materials = Vec::new();
    for material in parsed {
        let texture = material.diffuse_texture.as_ref().and_then(|name| {
            *known.entry(name.clone()).or_insert_with(|| {
                textures.push(load_texture(name, read)?);
                Some(textures.len() - 1)
            })
        });
        materials.push(convert(material, texture));
    }
    materials.push(convert(&tobj::Material::default(), None));
    (textures, materials)
}

/// Reads a texture. Some libraries name pictures that they do not contain, by absolute paths of their authors'
/// machines: then the plain colour of the material must do, as it does in the library's own viewer.
fn load_texture(name: &str, read: &mut ReadFile<'_>) -> Option<Texture> {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let bytes = read(name.trim()).or_else(|_| read(base.trim())).ok()?;
    Texture::decode(&bytes).ok()
}

/// `d` is opacity; the older `Tr` is transparency.
fn opacity(material: &tobj::Material) -> f32 {
    let transparency = || material.unknown_param.get("Tr").and_then(|text| text.trim().parse::<f32>().ok());
    let opacity = material.dissolve.or_else(|| transparency().map(|t| 1.0 - t)).unwrap_or(1.0);
    if opacity.is_finite() { opacity.clamp(0.0, 1.0) } else { 1.0 }
}

/// The files are ASCII but for some names, whose bytes may be ISO-8859-1; tobj reads UTF-8 only.
fn as_utf8(bytes: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if std::str::from_utf8(bytes).is_ok() {
        bytes.into()
    } else {
        bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into_bytes().into()
    }
}

fn convert(material: &tobj::Material, texture: Option<usize>) -> Material {
    let linear = |color: Option<[f32; 3]>, default: f32| {
        Vec3::from_array(color.unwrap_or([default; 3])).clamp(Vec3::ZERO, Vec3::ONE).map(srgb_to_linear)
    };
    Material {
        // A texture replaces the colour: many files carry a dark one beside it that the authors' icons do not show.
        diffuse: if texture.is_some() { Vec3::ONE } else { linear(material.diffuse, 0.8) },
        specular: linear(material.specular, 0.0),
        emissive: linear(material.emissive, 0.0),
        shininess: material.shininess.unwrap_or(20.0).clamp(2.0, 250.0),
        opacity: opacity(material),
        texture,
    }
}
