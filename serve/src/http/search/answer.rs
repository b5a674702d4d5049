//! What a search answers.

use std::time::Duration;

use dfml_index::Hit;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::{
    Backend, Problem,
    images::{self, PATH_KEY},
};
use crate::bulk::STAMP_KEY;

/// The answer to a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SearchResponse {
    /// Name and fingerprint of the model that compared the pictures.
    pub model: String,
    /// The picture that was sent, if there was one.
    pub query: Option<QueryImage>,
    /// The results, best first.
    pub results: Vec<SearchResult>,
    /// Where the time went.
    pub timings_ms: Timings,
}

/// The picture that was sent, as it was understood (turned upright, before the crop).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueryImage {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SearchResult {
    /// 1 for the best, counted from the top of the whole ranking.
    pub rank: usize,
    /// Cosine similarity of the query and this picture, -1 to 1.
    pub score: f32,
    /// The probability that this picture shows the product of the query; absent if the model is not calibrated, or if the
    /// query is not a single example.
    pub match_probability: Option<f32>,
    /// The product.
    pub product_id: String,
    /// The product's picture that is most like the query.
    pub item_id: String,
    /// The product's name.
    pub name: Option<String>,
    /// The product's category.
    pub category: Option<String>,
    /// Who made the picture or the product's model: to be shown beside it where the licence asks for that.
    pub creator: Option<String>,
    /// The licence of the picture.
    pub license: Option<String>,
    /// Where to get the picture; absent if the server shows none.
    pub image_url: Option<String>,
    /// Everything else that is stored with the item.
    pub metadata: Map<String, Value>,
    /// The picture's embedding, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vec<f32>>,
}

/// Milliseconds in each stage of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// Taking the request's body off the connection; 0 for a search of a batch.
    pub read: f64,
    /// Image file to pixels, waiting for a thread included.
    pub decode: f64,
    /// Resizing, cropping, normalising.
    pub preprocess: f64,
    /// The model, waiting for it included.
    pub embed: f64,
    /// Finding the nearest vectors.
    pub search: f64,
    /// All of it.
    pub total: f64,
}

/// The answers to a batch of searches, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct BatchResponse {
    /// One for each search.
    pub(super) results: Vec<BatchAnswer>,
}

/// The answer to one search of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct BatchAnswer {
    /// The status that this search would have had alone.
    pub(super) status: u16,
    /// The answer, if the status is 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response: Option<SearchResponse>,
    /// What went wrong, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<Problem>,
}

/// Turns hits into results.
pub(super) struct Presenter<'a> {
    pub(super) backend: &'a Backend,
    /// Whether the server shows pictures.
    pub(super) pictures: bool,
    /// Whether a similarity says something about the query's product.
    pub(super) calibrated: bool,
    /// Rank of the first hit, less one.
    pub(super) offset: usize,
}

impl Presenter<'_> {
    pub(super) fn results(&self, hits: Vec<Hit>) -> Vec<SearchResult> {
        hits.into_iter().enumerate().map(|(index, hit)| self.result(self.offset + index + 1, hit)).collect()
    }

    fn result(&self, rank: usize, hit: Hit) -> SearchResult {
        let Shown { name, category, creator, license, image_url, metadata } =
            Shown::of(&hit.item_id, hit.metadata, self.pictures);
        let calibration = self.backend.manifest.calibration.as_ref().filter(|_| self.calibrated);
        SearchResult {
            rank,
            score: hit.score,
            match_probability: calibration.map(|known| known.probability(f64::from(hit.score)) as f32),
            product_id: hit.product_id,
            item_id: hit.item_id,
            name,
            category,
            creator,
            license,
            image_url,
            metadata,
            vector: None,
        }
    }
}

/// An item's metadata, taken apart for showing.
pub(in crate::http) struct Shown {
    pub(in crate::http) name: Option<String>,
    pub(in crate::http) category: Option<String>,
    pub(in crate::http) creator: Option<String>,
    pub(in crate::http) license: Option<String>,
    pub(in crate::http) image_url: Option<String>,
    /// The rest, without what is the server's own business.
    pub(in crate::http) metadata: Map<String, Value>,
}

impl Shown {
    pub(in crate::http) fn of(item_id: &str, mut metadata: Map<String, Value>, pictures: bool) -> Self {
        let mut take = |key: &str| match metadata.remove(key) {
            Some(Value::String(text)) => Some(text),
            Some(Value::Null) | None => None,
            Some(other) => Some(other.to_string()),
        };
        let (name, category) = (take("name"), take("category"));
        let (creator, license) = (take("creator"), take("license"));
        let has_picture = take(PATH_KEY).is_some();
        metadata.remove(STAMP_KEY);
        let image_url = (pictures && has_picture).then(|| images::url(item_id));
        Self { name, category, creator, license, image_url, metadata }
    }
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    // To a microsecond: more digits say nothing and make the answer longer.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
