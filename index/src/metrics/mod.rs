//! Retrieval and clustering quality of embeddings: Recall@K, R-precision, MAP@R; NMI, AMI and F1 of k-means clusters.
//!
//! [`evaluate`] finds each query's neighbours by comparing with the whole gallery, in chunks and on all cores, and averages
//! the measures. The same numbers come out whatever the number of threads; equal scores are ordered by gallery position.

mod clusters;
mod kmeans;
mod neighbours;
mod retrieval;

pub use clusters::{ami, f1, nmi};
pub use kmeans::{Clustering, cluster_quality, kmeans};
pub use neighbours::{Neighbour, nearest};
pub use retrieval::{Retrieval, average_precision_at_r, evaluate, r_precision, recall_at_k};

/// Embeddings and what they show.
#[derive(Debug)]
pub struct Labelled<'a, L> {
    /// Embeddings of unit length, `[labels.len() * dim]`, row major.
    pub vectors: &'a [f32],
    /// Length of one embedding.
    pub dim: usize,
    /// Class of each embedding.
    pub labels: &'a [L],
}

// Derived, these would ask for `L: Copy`; only references are copied.
impl<L> Clone for Labelled<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Labelled<'_, L> {}

/// Why embeddings cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// The number of values is not the number of labels times the dimension.
    #[error("{what}: {values} values for {labels} labels of {dim} dimensions")]
    Shape {
        /// Gallery or queries.
        what: &'static str,
        /// Values given.
        values: usize,
        /// Labels given.
        labels: usize,
        /// Dimension given.
        dim: usize,
    },
    /// Gallery and queries have different dimensions.
    #[error("queries have {queries} dimensions, the gallery has {gallery}")]
    Dimensions {
        /// Of the queries.
        queries: usize,
        /// Of the gallery.
        gallery: usize,
    },
    /// There is nothing to judge.
    #[error("{0}: there are no embeddings")]
    Empty(&'static str),
    /// An embedding has a value that is not finite.
    #[error("{what}: embedding {row} is not finite")]
    NotFinite {
        /// Gallery or queries.
        what: &'static str,
        /// Which embedding, from 0.
        row: usize,
    },
    /// Recall@0 is not defined.
    #[error("Recall@K needs K of at least 1")]
    ZeroK,
    /// Labels and clusters do not belong together.
    #[error("{labels} labels and {clusters} clusters")]
    Clusters {
        /// Number of labels.
        labels: usize,
        /// Number of cluster numbers.
        clusters: usize,
    },
}

impl<L> Labelled<'_, L> {
    /// Checks shape and values.
    fn check(&self, what: &'static str) -> Result<(), MetricsError> {
        if self.labels.is_empty() {
            return Err(MetricsError::Empty(what));
        }
        let (values, labels, dim) = (self.vectors.len(), self.labels.len(), self.dim);
        if dim == 0 || labels.checked_mul(dim) != Some(values) {
            return Err(MetricsError::Shape { what, values, labels, dim });
        }
        match self.vectors.iter().position(|value| !value.is_finite()) {
            Some(position) => Err(MetricsError::NotFinite { what, row: position / dim }),
            None => Ok(()),
        }
    }
}
