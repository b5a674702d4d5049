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
const EDGE: u32 = 64;

/// Directions of the views, in radians: front left, front right, back.
const AZIMUTHS: [f32; 3] = [0.3, -0.9, 2.8];

/// Largest mean difference per colour channel, in steps of 1/255, over the places that either piece covers, at which
/// two pieces count as equal.
const TOLERANCE: u64 = 1;

/// How a piece looks from the compared sides.
pub(crate) struct Signature(Vec<u8>);

impl Signature {
    /// Renders the compared views.
    pub(crate) fn of(mesh: &Mesh, shape: &Shape) -> Self {
        let views = AZIMUTHS.iter().map(|&azimuth| render(mesh, shape, &Scene::canonical(azimuth), EDGE));
        Self(views.flat_map(image::RgbImage::into_raw).collect())
    }

    fn looks_like(&self, other: &Self) -> bool {
        // The sum over everything is quick and bounds the other test, which nearly no pair comes to.
        let limit = TOLERANCE * self.0.len() as u64;
        let mut sum = 0;
        for (mine, theirs) in self.0.chunks(1024).zip(other.0.chunks(1024)) {
            sum += mine.iter().zip(theirs).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
            if sum > limit {
                return false;
            }
        }
        sum <= TOLERANCE * self.covered_with(other)
    }

    /// How many values lie where this piece or the other one covers the backdrop.
    fn covered_with(&self, other: &Self) -> u64 {
        // The frame leaves the corners of every view to the plain backdrop.
        let backdrop = &self.0[..3];
        let pixels = self.0.chunks_exact(3).zip(other.0.chunks_exact(3));
        3 * pixels.filter(|(mine, theirs)| *mine != backdrop || *theirs != backdrop).count() as u64
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

    /// A grey backdrop with `covered` pixels of `level` in the middle.
    fn signature(level: u8, covered: usize) -> Option<Signature> {
        let mut pixels = vec![100; 300 * 3];
        pixels[300..300 + covered * 3].fill(level);
        Some(Signature(pixels))
    }

    #[test]
    fn the_first_of_equals_is_kept() {
        let pieces = [
            signature(10, 50),
            signature(90, 50),
            None,
            signature(11, 50),
            signature(90, 50),
            signature(13, 50),
        ];
        assert_eq!(find(&pieces), [None, None, None, Some(0), Some(1), None]);
    }

    #[test]
    fn small_pieces_are_told_apart_too() {
        assert_eq!(find(&[signature(10, 3), signature(40, 3)]), [None, None]);
    }
}
