//! What is searched, for what, and what there is to find.

use std::path::{Path, PathBuf};

use dfml_index::{metrics, synthetic};

use crate::npy::{self, NpyError};

/// Scores that differ by less are the same: they depend on the order of additions.
const SAME: f32 = 1e-5;

/// Vectors and queries of unit length.
#[derive(Clone, Debug)]
pub struct Data {
    /// What it is, in words.
    pub name: String,
    /// Length of a vector.
    pub dim: usize,
    /// `[count, dim]`.
    pub vectors: Vec<f32>,
    /// `[queries, dim]`.
    pub queries: Vec<f32>,
}

/// Vectors that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be read.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// Vectors and queries are of different lengths, or there are none.
    #[error("{}: {queries} values a query, but {vectors} a vector", path.display())]
    Shape {
        /// The queries' file.
        path: PathBuf,
        /// Length of a vector.
        vectors: usize,
        /// Length of a query.
        queries: usize,
    },
    /// A vector has no direction.
    #[error("{}: row {row} is zero or not finite", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
    },
}

impl Data {
    /// Made-up vectors that resemble embeddings; see [`synthetic`].
    pub fn synthetic(count: usize, queries: usize, dim: usize) -> Self {
        let set = synthetic::clustered(count, queries, dim, 1);
        let name = format!("synthetic, clustered, {count} x {dim}");
        Self { name, dim, vectors: set.vectors, queries: set.queries }
    }

    /// Vectors and queries out of .npy files, scaled to unit length.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn read(vectors: &Path, queries: &Path) -> Result<Self, DataError> {
        let unit = |path: &Path| -> Result<(usize, Vec<f32>), DataError> {
            let mut array = npy::read(path)?;
            for (row, vector) in array.values.chunks_exact_mut(array.columns.max(1)).enumerate() {
                let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
                if !length.is_finite() || length < f32::MIN_POSITIVE {
                    return Err(DataError::Row { path: path.to_path_buf(), row });
                }
                vector.iter_mut().for_each(|value| *value /= length);
            }
            Ok((array.columns, array.values))
        };
        let (dim, values) = unit(vectors)?;
        let (query_dim, query_values) = unit(queries)?;
        if dim != query_dim || dim == 0 {
            return Err(DataError::Shape { path: queries.to_path_buf(), vectors: dim, queries: query_dim });
        }
        let name = format!("{}, {} x {dim}", vectors.display(), values.len() / dim);
        Ok(Self { name, dim, vectors: values, queries: query_values })
    }

    /// Number of vectors.
    pub fn count(&self) -> usize {
        self.vectors.len() / self.dim
    }

    /// Number of queries.
    pub fn query_count(&self) -> usize {
        self.queries.len() / self.dim
    }

    /// A query.
    pub fn query(&self, number: usize) -> &[f32] {
        &self.queries[number * self.dim..][..self.dim]
    }
}

/// The score that a result must have to be among the `k` nearest, for each query.
#[derive(Clone, Debug)]
pub struct Truth {
    k: usize,
    least: Vec<f32>,
}

impl Truth {
    /// Compares every query with every vector.
    pub fn of(data: &Data, k: usize) -> Self {
        let k = k.min(data.count());
        let least = metrics::nearest(
            &data.vectors,
            Some(&data.queries),
            data.dim,
            |_| k,
            |_, found| found.last().map_or(f32::INFINITY, |worst| worst.score),
        );
        Self { k, least }
    }

    /// Mean share of the `k` nearest among results, `k` of them for each query: numbers of vectors, anything else for none.
    pub fn recall(&self, data: &Data, results: &[i64]) -> f64 {
        let mut found = 0;
        for (query, results) in results.chunks_exact(self.k.max(1)).enumerate() {
            let mut distinct: Vec<i64> = results.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            let good = distinct.iter().filter(|&&number| {
                let Ok(number) = usize::try_from(number) else { return false };
                let Some(vector) = data.vectors.get(number * data.dim..(number + 1) * data.dim) else {
                    return false;
                };
                let score: f32 = vector.iter().zip(data.query(query)).map(|(a, b)| a * b).sum();
                score >= self.least[query] - SAME
            });
            found += good.count().min(self.k);
        }
        found as f64 / (self.k * self.least.len()).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_counts_what_is_as_near_as_the_truth() {
        let data = Data {
            name: String::new(),
            dim: 2,
            vectors: vec![1.0, 0.0, 0.8, 0.6, 0.0, 1.0, 0.8, 0.6],
            queries: vec![1.0, 0.0],
        };
        let truth = Truth::of(&data, 2);
        assert_eq!(truth.recall(&data, &[0, 1]), 1.0);
        assert_eq!(truth.recall(&data, &[0, 3]), 1.0, "as near as the other");
        assert_eq!(truth.recall(&data, &[0, 2]), 0.5);
        assert_eq!(truth.recall(&data, &[0, 0]), 0.5, "the same twice");
        assert_eq!(truth.recall(&data, &[-1, 9]), 0.0);
    }
}
