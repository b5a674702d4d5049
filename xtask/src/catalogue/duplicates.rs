//! When two pieces are the same product: they look alike from three sides in the same plain light.
//!
//! The libraries contain pieces under several ids that nobody could tell apart in a picture: the same model twice,
//! or the same model at another scale (every picture frames its piece, so absolute size is invisible). Asking for
//! either as the one right answer would be noise, so the later piece is left out. Variants that differ visibly, in
//! colour or in a part, stay separate products.

use super::mesh::Mesh;
use super::render::render;
use super::scene::{Scene, Shape};

/// Edge in pixels of the views that are compared.
const EDGE: u32 = 48;

/// Directions of the views, in radians: front left, front right, back.
const AZIMUTHS: [f32; 3] = [0.6, -0.9, 2.8];

/// Largest mean difference per colour channel, in steps of 1/255, at which two views count as equal.
const TOLERANCE: u64 = 1;

/// How a piece looks from the compared sides.
pub(crate) struct Signature(Vec<u8>);

impl Signature {
    /// Renders the compared views.
    pub(crate) fn of(mesh: &Mesh, shape: &Shape) -> Self {
        let views = AZIMUTHS.iter().map(|&azimuth| render(mesh, shape, &Scene::canonical(azimuth), EDGE));
        Self(views.flat_map(image::RgbImage::into_raw).collect())
    }

    fn difference(&self, other: &Self) -> u64 {
        self.0.iter().zip(&other.0).map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
    }

    fn looks_like(&self, other: &Self) -> bool {
        self.difference(other) <= TOLERANCE * self.0.len() as u64
    }
}

/// For every piece the index of an earlier one that looks the same and is itself kept, if there is one.
pub(crate) fn find(signatures: &[Option<Signature>]) -> Vec<Option<usize>> {
    let mut kept: Vec<(usize, &Signature)> = Vec::new();
    signatures
        .iter()
        .enumerate()
        .map(|(index, signature)| {
            let signature = signature.as_ref()?;
            let first = kept.iter().find(|(_, other)| signature.looks_like(other)).map(|(first, _)| *first);
            if first.is_none() {
                kept.push((index, signature));
            }
            first
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_is_kept() {
        let signature = |level: u8| Some(Signature(vec![level; 300]));
        let found = find(&[signature(10), signature(90), None, signature(11), signature(90), signature(13)]);
        assert_eq!(found, [None, None, None, Some(0), Some(1), None]);
    }
}
