//! k-means, and how well its clusters are the classes.

use std::collections::HashSet;
use std::hash::Hash;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Labelled, MetricsError, ami, f1, nearest, nmi};

/// Rounds of assignment and update at most; it stops when nothing moves.
const ROUNDS_MAX: usize = 50;
/// Rounds in which the first centres are drawn, at most: one by one up to this many, in equal groups beyond.
const DRAWS_MAX: usize = 128;

/// How well k-means clusters agree with classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clustering {
    /// Number of clusters, which is the number of classes.
    pub clusters: usize,
    /// Normalised mutual information.
    pub nmi: f64,
    /// Adjusted mutual information.
    pub ami: f64,
    /// F1 of pairs.
    pub f1: f64,
}

impl Clustering {
    /// The figures on one line.
    pub fn one_line(&self) -> String {
        format!("NMI {:.4}  AMI {:.4}  F1 {:.4}", self.nmi, self.ami, self.f1)
    }
}

/// Clusters embeddings into as many clusters as there are classes, and compares the two.
///
/// # Errors
/// [`MetricsError`] if shapes do not fit, a value is not finite, or there is nothing to judge.
pub fn cluster_quality<L: Eq + Hash + Sync>(
    set: Labelled<'_, L>,
    seed: u64,
) -> Result<Clustering, MetricsError> {
    let classes = set.labels.iter().collect::<HashSet<_>>().len();
    set.check("clusters")?;
    let clusters = kmeans(set.vectors, set.dim, classes, seed)?;
    Ok(Clustering {
        clusters: classes,
        nmi: nmi(set.labels, &clusters)?,
        ami: ami(set.labels, &clusters)?,
        f1: f1(set.labels, &clusters)?,
    })
}

/// Lloyd's k-means on `vectors` `[n * dim]`: the cluster (below `k`) of each. First centres are drawn with probability proportional to the
/// squared distance from those drawn before (k-means++; for many clusters several at a time). The distance matrix is never whole in memory,
/// and the result depends on the seed only, not on the number of threads.
///
/// # Errors
/// [`MetricsError`] if there are no vectors, fewer of them than clusters, or the shapes do not fit.
pub fn kmeans(vectors: &[f32], dim: usize, k: usize, seed: u64) -> Result<Vec<usize>, MetricsError> {
    let n = vectors.len().checked_div(dim).unwrap_or(0);
    if n == 0 || k == 0 {
        return Err(MetricsError::Empty("clusters"));
    }
    if n * dim != vectors.len() || k > n {
        return Err(MetricsError::Clusters { labels: n, clusters: k });
    }
    let points = Points::new(vectors, dim);
    let mut centres = points.first_centres(k, seed);
    let mut clusters = vec![usize::MAX; n];
    for _ in 0..ROUNDS_MAX {
        let assigned = points.assign(&centres);
        let moved = assigned.iter().zip(&clusters).any(|(new, &old)| new.centre != old);
        clusters = assigned.iter().map(|assigned| assigned.centre).collect();
        if !moved {
            break;
        }
        centres = points.means(&assigned, k);
    }
    Ok(clusters)
}

/// Points with a 1 appended, so that the product with a centre `(c, -|c|^2 / 2)` orders centres by distance.
struct Points {
    rows: Vec<f32>,
    width: usize,
    squares: Vec<f32>,
}

/// The nearest centre of a point.
#[derive(Clone, Copy)]
struct Assigned {
    centre: usize,
    /// Squared distance.
    distance: f32,
}

impl Points {
    fn new(vectors: &[f32], dim: usize) -> Self {
        let rows = vectors.chunks_exact(dim).flat_map(|row| row.iter().copied().chain([1.0])).collect();
        let squares = vectors.chunks_exact(dim).map(|row| row.iter().map(|x| x * x).sum()).collect();
        Self { rows, width: dim + 1, squares }
    }

    fn len(&self) -> usize {
        self.squares.len()
    }

    fn row(&self, point: usize) -> &[f32] {
        &self.rows[point * self.width..][..self.width - 1]
    }

    fn assign(&self, centres: &[f32]) -> Vec<Assigned> {
        nearest(
            centres,
            Some(&self.rows),
            self.width,
            |_| 1,
            |point, found| {
                // `centres` is never empty, and all values are finite.
                let (centre, score) = found.first().map_or((0, 0.0), |best| (best.position, best.score));
                Assigned { centre, distance: (self.squares[point] - 2.0 * score).max(0.0) }
            },
        )
    }

    fn first_centres(&self, k: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut chosen = vec![rng.random_range(0..self.len())];
        let mut centres = Vec::with_capacity(k * self.width);
        push_centre(&mut centres, self.row(chosen[0]));
        let mut distance: Vec<f32> = self.assign(&centres).iter().map(|assigned| assigned.distance).collect();
        distance[chosen[0]] = 0.0;
        let group = k.div_ceil(DRAWS_MAX);
        while chosen.len() < k {
            let drawn = draw(&mut distance, group.min(k - chosen.len()), &mut rng);
            let mut new = Vec::with_capacity(drawn.len() * self.width);
            drawn.iter().for_each(|&point| push_centre(&mut new, self.row(point)));
            for (old, assigned) in distance.iter_mut().zip(self.assign(&new)) {
                *old = old.min(assigned.distance);
            }
            drawn.iter().for_each(|&point| distance[point] = 0.0);
            centres.extend(new);
            chosen.extend(drawn);
        }
        centres
    }

    /// Means of the clusters; a cluster without points takes the point that is farthest from its centre.
    fn means(&self, assigned: &[Assigned], k: usize) -> Vec<f32> {
        let mut members = vec![Vec::new(); k];
        for (point, assigned) in assigned.iter().enumerate() {
            members[assigned.centre].push(point);
        }
        let empty = members.iter().filter(|members| members.is_empty()).count();
        if empty > 0 {
            let mut far: Vec<usize> = (0..assigned.len()).collect();
            far.sort_by(|&a, &b| assigned[b].distance.total_cmp(&assigned[a].distance).then(a.cmp(&b)));
            let empties = members.iter_mut().filter(|members| members.is_empty());
            empties.zip(far).for_each(|(members, point)| members.push(point));
        }
        let rows: Vec<Vec<f32>> = members
            .par_iter()
            .map(|members| {
                let mut sum = vec![0f64; self.width - 1];
                for &point in members {
                    sum.iter_mut().zip(self.row(point)).for_each(|(sum, &x)| *sum += f64::from(x));
                }
                let mean: Vec<f32> = sum.iter().map(|sum| (sum / members.len() as f64) as f32).collect();
                let mut row = Vec::with_capacity(self.width);
                push_centre(&mut row, &mean);
                row
            })
            .collect();
        rows.concat()
    }
}

/// `count` different points, each with probability proportional to its squared distance; their distance becomes 0. Where
/// no distance is left (fewer different points than clusters), the first points that are not drawn yet.
fn draw(distance: &mut [f32], count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut drawn = Vec::with_capacity(count);
    let mut cumulative: Vec<f64> = Vec::with_capacity(distance.len());
    let mut total = 0.0;
    for &d in distance.iter() {
        total += f64::from(d);
        cumulative.push(total);
    }
    // A point that comes twice is drawn again, a bounded number of times.
    for _ in 0..count * 20 {
        if drawn.len() == count || total <= 0.0 {
            break;
        }
        let at = rng.random::<f64>() * total;
        let point = cumulative.partition_point(|&sum| sum <= at).min(distance.len() - 1);
        if distance[point] > 0.0 {
            distance[point] = 0.0;
            drawn.push(point);
        }
    }
    let mut rest = 0..distance.len();
    while drawn.len() < count {
        // There are at least as many points as clusters.
        let Some(point) = rest.next() else { break };
        if !drawn.contains(&point) {
            drawn.push(point);
        }
    }
    drawn
}

fn push_centre(centres: &mut Vec<f32>, row: &[f32]) {
    centres.extend_from_slice(row);
    centres.push(-row.iter().map(|x| x * x).sum::<f32>() / 2.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `per` points around each of `k` places far from each other.
    fn blobs(k: usize, per: usize, dim: usize) -> (Vec<f32>, Vec<usize>) {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let places: Vec<f32> = (0..k * dim).map(|_| rng.random_range(-10.0..10.0)).collect();
        let (mut vectors, mut labels) = (Vec::new(), Vec::new());
        for i in 0..k * per {
            let place = &places[i % k * dim..][..dim];
            vectors.extend(place.iter().map(|x| x + rng.random_range(-0.1f32..0.1)));
            labels.push(i % k);
        }
        (vectors, labels)
    }

    #[test]
    fn finds_groups_that_lie_apart() {
        for (k, per) in [(5, 30), (300, 4)] {
            let (vectors, labels) = blobs(k, per, 16);
            let found =
                cluster_quality(Labelled { vectors: &vectors, dim: 16, labels: &labels }, 1).expect("fits");
            assert_eq!(found.clusters, k);
            // Drawn in groups, a few of many places get two first centres.
            let least = if k > DRAWS_MAX { 0.97 } else { 1.0 };
            assert!(found.nmi >= least && found.f1 >= least - 0.1, "{found:?}");
        }
    }

    #[test]
    fn every_point_ends_at_its_nearest_mean() {
        let (vectors, _) = blobs(3, 50, 4);
        let clusters = kmeans(&vectors, 4, 7, 2).expect("fits");
        let mean = |cluster: usize| {
            let rows: Vec<&[f32]> = vectors
                .chunks(4)
                .zip(&clusters)
                .filter(|(_, c)| **c == cluster)
                .map(|(row, _)| row)
                .collect();
            assert!(!rows.is_empty(), "cluster {cluster} is empty");
            (0..4).map(|d| rows.iter().map(|row| row[d]).sum::<f32>() / rows.len() as f32).collect::<Vec<_>>()
        };
        let means: Vec<Vec<f32>> = (0..7).map(mean).collect();
        let squared = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        for (row, &own) in vectors.chunks(4).zip(&clusters) {
            let least = means.iter().map(|mean| squared(row, mean)).fold(f32::INFINITY, f32::min);
            assert!(squared(row, &means[own]) <= least + 1e-4);
        }
        assert_eq!(
            clusters,
            kmeans(&vectors, 4, 7, 2).expect("fits"),
            "the same seed gives the same clusters"
        );
    }

    #[test]
    fn equal_points_and_impossible_numbers() {
        let clusters = kmeans(&[1.0; 12], 2, 3, 0).expect("equal points are no error");
        assert!(clusters.iter().all(|&cluster| cluster < 3));
        assert_eq!(kmeans(&[1.0; 4], 2, 3, 0), Err(MetricsError::Clusters { labels: 2, clusters: 3 }));
        assert_eq!(kmeans(&[], 2, 1, 0), Err(MetricsError::Empty("clusters")));
    }
}
