//! Made-up vectors that resemble embeddings of a product catalogue, for benchmarks and tests.
//!
//! Neither uniform noise, in which nothing is near anything, nor a few tight balls, in which any search is easy: categories
//! hold products and products hold images, each scattered around the one above, and the values spread out unevenly, as the
//! components of trained embeddings do. Queries are further images of products that are in the set.
//!
//! How far they scatter and how fast the values fall off was chosen to match embeddings of 14,964 real pictures (EfficientNet-Lite0
//! on ImageNet, 384 values; furniture and Caltech-101), 1,000 of them as queries:
//!
//! | | real | made up, as many |
//! |---|---|---|
//! | dimensions that carry the variance: (sum of eigenvalues)² / sum of their squares | 86 | 81 |
//! | cosine of the nearest, 10th, 100th neighbour (median) | 0.73, 0.54, 0.36 | 0.74, 0.49, 0.41 |
//! | recall@10 of hnswlib, M = 16, at ef 10, 25, 50 | 0.948, 0.991, 0.998 | 0.941, 0.991, 1.000 |

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// How far products are from the centre of their category, and images from that of their product; the centres of
/// categories are 1 from the origin.
const PRODUCT_SPREAD: f32 = 1.0;
const IMAGE_SPREAD: f32 = 0.9;
/// Value `j` spreads out in proportion to `(1 + j)` to minus this.
const FALL: f32 = 0.33;
/// Images of a product on average; Stanford Online Products has 5.3.
const IMAGES_PER_PRODUCT: usize = 5;
/// Products of a category on average.
const PRODUCTS_PER_CATEGORY: usize = 100;

/// A set of vectors and queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Clustered {
    /// Length of the vectors.
    pub dim: usize,
    /// Unit vectors, `[count, dim]`.
    pub vectors: Vec<f32>,
    /// The product of each vector.
    pub products: Vec<u32>,
    /// Unit vectors, `[queries, dim]`.
    pub queries: Vec<f32>,
}

/// Makes `count` vectors and `queries` queries of `dim` values; the same for the same arguments.
pub fn clustered(count: usize, queries: usize, dim: usize, seed: u64) -> Clustered {
    let products = count.div_ceil(IMAGES_PER_PRODUCT).max(1);
    let categories = products.div_ceil(PRODUCTS_PER_CATEGORY).max(2);
    let spread: Vec<f32> = (0..dim).map(|at| (1.0 + at as f32).powf(-FALL)).collect();
    let length = spread.iter().map(|value| value * value).sum::<f32>().sqrt();
    let spread: Vec<f32> = spread.iter().map(|value| value / length).collect();
    let noise = |kind: u64, number: u64| Normal::new(seed, kind, number);
    let image = |kind: u64, number: usize| {
        let product = noise(kind, number as u64).uniform(products);
        let category = noise(PRODUCT, product as u64).uniform(categories);
        let (mut of_category, mut of_product) =
            (noise(CATEGORY, category as u64), noise(PRODUCT, product as u64));
        let mut of_image = noise(kind + OFFSET, number as u64);
        let mut vector: Vec<f32> = spread
            .iter()
            .map(|scale| {
                let own = IMAGE_SPREAD * of_image.next();
                scale * (of_category.next() + PRODUCT_SPREAD * of_product.next() + own)
            })
            .collect();
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|value| *value /= length);
        (product as u32, vector)
    };
    let all = |kind: u64, count: usize| -> Vec<(u32, Vec<f32>)> {
        (0..count).into_par_iter().with_min_len(256).map(|number| image(kind, number)).collect()
    };
    let (members, asked) = (all(IMAGE, count), all(QUERY, queries));
    Clustered {
        dim,
        products: members.iter().map(|(product, _)| *product).collect(),
        vectors: members.into_iter().flat_map(|(_, vector)| vector).collect(),
        queries: asked.into_iter().flat_map(|(_, vector)| vector).collect(),
    }
}

/// Streams of random numbers: what they are for.
const CATEGORY: u64 = 1;
const PRODUCT: u64 = 2;
const IMAGE: u64 = 3;
const QUERY: u64 = 4;
/// From the stream that chooses an image's product to the one that scatters it.
const OFFSET: u64 = 16;

/// Normally distributed numbers, always the same for the same thing.
struct Normal {
    random: ChaCha8Rng,
    spare: Option<f32>,
}

impl Normal {
    fn new(seed: u64, kind: u64, number: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ kind << 56);
        random.set_stream(number);
        Self { random, spare: None }
    }

    fn uniform(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    /// The next number (Box and Muller make two at a time).
    fn next(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (a, b) = (self.random.random::<f32>(), self.random.random::<f32>());
        let length = (-2.0 * (1.0 - a).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * b).sin_cos();
        self.spare = Some(length * sin);
        length * cos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_a_product_are_alike_but_not_alone() {
        let set = clustered(2000, 10, 64, 1);
        assert_eq!((set.vectors.len(), set.queries.len()), (2000 * 64, 10 * 64));
        assert_eq!(set, clustered(2000, 10, 64, 1));
        let vector = |at: usize| &set.vectors[at * 64..][..64];
        let cosine = |a: usize, b: usize| vector(a).iter().zip(vector(b)).map(|(x, y)| x * y).sum::<f32>();
        let (mut same, mut other) = (Vec::new(), Vec::new());
        for a in 0..300 {
            for b in 0..a {
                if set.products[a] == set.products[b] { &mut same } else { &mut other }.push(cosine(a, b));
            }
        }
        let mean = |all: &[f32]| all.iter().sum::<f32>() / all.len() as f32;
        assert!(mean(&same) > 0.6 && mean(&same) < 0.95, "{}", mean(&same));
        assert!(mean(&other) < 0.35, "{}", mean(&other));
        // Some images of other products are nearer than some of the same: a search has to look closely.
        let nearest_other = other.iter().copied().fold(0.0, f32::max);
        let farthest_same = same.iter().copied().fold(1.0, f32::min);
        assert!(nearest_other > farthest_same);
    }
}
