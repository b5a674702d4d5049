//! Nearest neighbours by comparing everything with everything, a tile of the score matrix at a time.

use std::cmp::Ordering;

use rayon::prelude::*;

/// Queries per tile.
const QUERIES: usize = 64;
/// Gallery vectors per tile: a tile of scores is 256 KiB and stays in the second-level cache.
const GALLERY: usize = 1024;

/// A gallery vector and how like the query it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Dot product with the query.
    pub score: f32,
    /// Position in the gallery.
    pub position: usize,
}

impl Neighbour {
    /// Best first; equal scores in gallery order.
    fn order(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.position.cmp(&other.position))
    }
}

/// The best `depth(query)` gallery vectors of every query, best first, handed to `judge` with the query's position; its
/// results come back in query order. `queries` of `None` takes each gallery vector as query for the others.
///
/// Vectors are row major with `dim` finite values each.
pub fn nearest<T: Send>(
    gallery: &[f32],
    queries: Option<&[f32]>,
    dim: usize,
    depth: impl Fn(usize) -> usize + Sync,
    judge: impl Fn(usize, &[Neighbour]) -> T + Sync,
) -> Vec<T> {
    let rows = queries.unwrap_or(gallery);
    let leave_out = queries.is_none();
    let dim = dim.max(1);
    rows.par_chunks(QUERIES * dim)
        .enumerate()
        .flat_map_iter(|(chunk, rows)| {
            let first = chunk * QUERIES;
            let count = rows.len() / dim;
            let mut best: Vec<Best> = (first..first + count).map(|query| Best::new(depth(query))).collect();
            scan(gallery, rows, dim, |query, position, score| {
                if !(leave_out && position == first + query) {
                    best[query].offer(Neighbour { score, position });
                }
            });
            let judged: Vec<T> =
                best.into_iter().enumerate().map(|(row, best)| judge(first + row, &best.finish())).collect();
            judged
        })
        .collect()
}

/// Calls `visit(query, position, score)` for every pair, positions ascending per query.
fn scan(gallery: &[f32], queries: &[f32], dim: usize, mut visit: impl FnMut(usize, usize, f32)) {
    let count = queries.len() / dim;
    let mut scores = vec![0f32; count * GALLERY];
    for (tile, rows) in gallery.chunks(GALLERY * dim).enumerate() {
        let width = rows.len() / dim;
        multiply(queries, rows, dim, &mut scores[..count * width]);
        for (query, row) in scores[..count * width].chunks_exact(width).enumerate() {
            for (column, &score) in row.iter().enumerate() {
                visit(query, tile * GALLERY + column, score);
            }
        }
    }
}

/// `out[i][j]` = dot product of row `i` of `a` and row `j` of `b`.
fn multiply(a: &[f32], b: &[f32], dim: usize, out: &mut [f32]) {
    let (m, n) = (a.len() / dim, b.len() / dim);
    assert_eq!(out.len(), m * n);
    let stride =
        |value: usize| isize::try_from(value).expect("a row length fits in isize, as the slice does");
    // SAFETY: `a` holds m rows and `b` n rows of `dim` values, `out` m * n; the strides stay within them.
    unsafe {
        matrixmultiply::sgemm(
            m,
            dim,
            n,
            1.0,
            a.as_ptr(),
            stride(dim),
            1,
            b.as_ptr(),
            1,
            stride(dim),
            0.0,
            out.as_mut_ptr(),
            stride(n),
            1,
        );
    }
}

/// Keeps the best `depth` of what it is offered, in at most twice the room.
struct Best {
    depth: usize,
    kept: Vec<Neighbour>,
    /// Scores below this cannot be among the best.
    floor: f32,
}

impl Best {
    fn new(depth: usize) -> Self {
        Self { depth, kept: Vec::new(), floor: f32::NEG_INFINITY }
    }

    #[inline]
    fn offer(&mut self, neighbour: Neighbour) {
        if neighbour.score >= self.floor && self.depth > 0 {
            self.kept.push(neighbour);
            if self.kept.len() >= self.depth.saturating_mul(2).max(64) {
                self.prune();
            }
        }
    }

    fn prune(&mut self) {
        if self.kept.len() > self.depth {
            self.kept.select_nth_unstable_by(self.depth - 1, Neighbour::order);
            self.kept.truncate(self.depth);
            self.floor = self.kept[self.depth - 1].score;
        }
    }

    fn finish(mut self) -> Vec<Neighbour> {
        self.prune();
        self.kept.sort_unstable_by(Neighbour::order);
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn vectors(count: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        // Few distinct values, so that ties occur.
        (0..count * dim).map(|_| random.random_range(-2i8..=2).into()).collect()
    }

    fn expected(gallery: &[f32], query: &[f32], skip: Option<usize>, depth: usize) -> Vec<usize> {
        let dot = |row: &[f32]| row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
        let mut order: Vec<(usize, f32)> = gallery.chunks(query.len()).map(dot).enumerate().collect();
        order.retain(|(position, _)| Some(*position) != skip);
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        order.into_iter().map(|(position, _)| position).take(depth).collect()
    }

    #[test]
    fn agrees_with_sorting_everything_across_tiles() {
        let dim = 5;
        let (gallery, queries) = (vectors(2500, dim, 1), vectors(70, dim, 2));
        let depth = |query: usize| query % 9 * 20;
        let positions = |_: usize, found: &[Neighbour]| found.iter().map(|n| n.position).collect::<Vec<_>>();
        for (query, found) in nearest(&gallery, Some(&queries), dim, depth, positions).iter().enumerate() {
            assert_eq!(*found, expected(&gallery, &queries[query * dim..][..dim], None, depth(query)));
        }
        for (query, found) in nearest(&gallery, None, dim, |_| 7, positions).iter().enumerate() {
            assert_eq!(*found, expected(&gallery, &gallery[query * dim..][..dim], Some(query), 7));
        }
    }
}
