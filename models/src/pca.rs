//! Principal components of features: the start of a linear embedding layer.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::weights::Tensor;

/// The mean of a set of feature vectors and the directions in which they vary most.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// Mean of the features, length `d`.
    pub mean: Vec<f32>,
    /// Orthonormal directions, the one of largest variance first: `[dim][d]`.
    ///
    /// The sign of each is fixed: its largest element by magnitude is positive.
    pub components: Vec<Vec<f32>>,
    /// Share of the total variance that the components keep, from 0 to 1.
    pub explained: f64,
}

/// Why principal components could not be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcaError {
    /// The sizes do not fit together.
    #[error("{values} values are not {n} feature vectors of length {d}")]
    Size {
        /// Number of values given.
        values: usize,
        /// Number of vectors they should be.
        n: usize,
        /// Length each should have.
        d: usize,
    },
    /// The features do not vary in enough directions.
    #[error(
        "{dim} principal components were asked for, but {n} feature vectors of length {d} vary in only {rank} directions"
    )]
    Rank {
        /// Components asked for.
        dim: usize,
        /// Number of vectors.
        n: usize,
        /// Length of each.
        d: usize,
        /// Directions with variance above rounding error.
        rank: usize,
    },
    /// A feature is infinite or not a number.
    #[error("feature vector {row} holds a value that is not finite")]
    NotFinite {
        /// Position of the vector.
        row: usize,
    },
}

/// Variance below this share of the largest counts as rounding error of single-precision features.
const RANK_TOLERANCE: f64 = 1e-10;

/// Computes the `dim` largest principal components of `n` feature vectors of length `d`, row after row.
///
/// Deterministic. At most `min(n - 1, d)` components exist; asking for more than the features support is an
/// error that says how many there are. Time is of order `n d^2 + d^3`.
pub fn fit(features: &[f32], n: usize, d: usize, dim: usize) -> Result<Pca, PcaError> {
    if n == 0 || d == 0 || n.checked_mul(d) != Some(features.len()) {
        return Err(PcaError::Size { values: features.len(), n, d });
    }
    if let Some(at) = features.iter().position(|x| !x.is_finite()) {
        return Err(PcaError::NotFinite { row: at / d });
    }
    if dim > (n - 1).min(d) {
        return Err(PcaError::Rank { dim, n, d, rank: (n - 1).min(d) });
    }
    let mean = mean(features, n, d);
    let eigen = SymmetricEigen::new(covariance(features, n, d, &mean));
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));

    let largest = eigen.eigenvalues[order[0]].max(0.0);
    let rank = order.iter().filter(|i| eigen.eigenvalues[**i] > largest * RANK_TOLERANCE).count();
    if rank < dim {
        return Err(PcaError::Rank { dim, n, d, rank });
    }
    let total: f64 = eigen.eigenvalues.iter().map(|x| x.max(0.0)).sum();
    let kept: f64 = order[..dim].iter().map(|i| eigen.eigenvalues[*i]).sum();
    let components =
        order[..dim].iter().map(|i| oriented(eigen.eigenvectors.column(*i).as_slice())).collect();
    let explained = if total > 0.0 { kept / total } else { 0.0 };
    Ok(Pca { mean: mean.iter().map(|x| *x as f32).collect(), components, explained })
}

fn mean(features: &[f32], n: usize, d: usize) -> Vec<f64> {
    let mut mean = vec![0.0; d];
    for row in features.chunks_exact(d) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x));
    }
    mean.iter_mut().for_each(|m| *m /= n as f64);
    mean
}

/// The covariance, summed over slabs of rows so that only a slab is ever held in double precision.
fn covariance(features: &[f32], n: usize, d: usize, mean: &[f64]) -> DMatrix<f64> {
    const SLAB: usize = 512;
    let mut sum = DMatrix::<f64>::zeros(d, d);
    for slab in features.chunks(SLAB * d) {
        // Column major: column j of the slab is the j-th centred feature vector.
        let centred: Vec<f64> = slab.iter().enumerate().map(|(i, x)| f64::from(*x) - mean[i % d]).collect();
        let centred = DMatrix::from_vec(d, slab.len() / d, centred);
        sum.gemm(1.0, &centred, &centred.transpose(), 1.0);
    }
    sum / (n.max(2) - 1) as f64
}

/// The direction with the sign that makes its largest element positive.
fn oriented(direction: &[f64]) -> Vec<f32> {
    let largest = direction.iter().fold(0.0f64, |best, x| if x.abs() > best.abs() { *x } else { best });
    let sign = if largest < 0.0 { -1.0 } else { 1.0 };
    direction.iter().map(|x| (sign * x) as f32).collect()
}

impl Pca {
    /// The linear layer that maps a feature vector to its coordinates along the components:
    /// weight `[dim, d]` and bias `[dim]`, the bias being minus the weight times the mean.
    pub fn linear(&self) -> (Tensor, Tensor) {
        let bias = self
            .components
            .iter()
            .map(|row| {
                -row.iter().zip(&self.mean).map(|(w, m)| f64::from(*w) * f64::from(*m)).sum::<f64>() as f32
            })
            .collect();
        let weight = Tensor::new(vec![self.components.len(), self.mean.len()], self.components.concat());
        (weight, Tensor::new(vec![self.components.len()], bias))
    }
}
