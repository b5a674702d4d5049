//! What goes into an index and what comes out.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Filter;

/// One image of a product, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Names the image; upserting it again replaces it. Not empty, at most [`Item::ID_BYTES_MAX`] bytes.
    pub id: String,
    /// The product that the image shows. Not empty, at most [`Item::ID_BYTES_MAX`] bytes.
    pub product_id: String,
    /// Embedding of unit length, `[dim]`.
    pub vector: Vec<f32>,
    /// What is known about the image and its product; filters look here.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

impl Item {
    /// Longest item or product id, in bytes of UTF-8.
    pub const ID_BYTES_MAX: usize = 1024;
}

/// A question to the index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchRequest {
    /// Embedding to compare with, `[dim]`. Any length but zero: it is normalised.
    pub vector: Vec<f32>,
    /// How many hits to return at most.
    pub k: usize,
    /// How many of the best hits to leave out (paging).
    #[serde(default)]
    pub offset: usize,
    /// Only items that the filter lets through are considered; the search still returns `k` of those if there are as many.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// One hit per product, its best image.
    #[serde(default)]
    pub group_by_product: bool,
    /// Leave out hits that score less, a cosine in -1..=1.
    #[serde(default)]
    pub threshold: Option<f32>,
    /// Compare with every item, however large the index is.
    #[serde(default)]
    pub exact: bool,
    /// Search effort of a graph search (its `ef`): more finds more and takes longer. The index's own choice if not given.
    #[serde(default)]
    pub effort: Option<usize>,
}

impl SearchRequest {
    /// A search for the 10 nearest items, without filter.
    pub fn new(vector: Vec<f32>) -> Self {
        Self { vector, k: 10, ..Self::default() }
    }
}

/// One answer to a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Id of the item.
    pub item_id: String,
    /// The product it shows.
    pub product_id: String,
    /// Cosine similarity with the query, -1..=1 up to rounding.
    pub score: f32,
    /// The item's metadata.
    pub metadata: Map<String, Value>,
}
