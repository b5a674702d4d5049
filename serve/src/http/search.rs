//! `POST /v1/search`: from an image to the products that look most alike.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use dfml_index::{Filter, Hit, SearchRequest};
use dfml_models::DecodeError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ApiError, AppState, Backend,
    categories::CATEGORY_KEY,
    images::{self, PATH_KEY},
    params::SearchParams,
    upload::Upload,
};
use crate::{bulk::STAMP_KEY, metrics::Stage};

/// The answer to a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchResponse {
    /// Name and fingerprint of the model that compared the images.
    pub model: String,
    /// The image that was sent.
    pub query: QueryImage,
    /// The products, best first.
    pub results: Vec<SearchResult>,
    /// Where the time went.
    pub timings_ms: Timings,
}

/// The image that was sent, as it was understood (turned upright).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryImage {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// One product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// 1 for the best, counted from the top of the whole ranking.
    pub rank: usize,
    /// Cosine similarity of the query and the product's best picture, -1 to 1.
    pub score: f32,
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
}

/// Milliseconds in each stage of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Taking the request's body off the connection.
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

/// The handler.
pub(super) async fn search(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let start = Instant::now();
    let backend = state.backend()?;
    // Before the body is read: its bytes are the first thing that costs memory.
    let _place = state.admission().enter()?;
    let options = state.options();
    let Upload { image, params } = Upload::read(request, options.body_bytes_max).await?;
    let k = params.count(options.k_default, options.k_max)?;
    let read = state.observed(Stage::Read, start.elapsed());

    let prepared = prepare(&state, &backend, image).await?;
    let (vector, embed) = timed(backend.batcher.embed(prepared.pixels)).await;
    let (hits, search) = timed(find(&state, &backend, vector?, &params, k)).await;
    let hits = hits?;
    state.observed(Stage::Search, search);

    let responding = Instant::now();
    let response = SearchResponse {
        model: format!("{}@{}", backend.manifest.name, short(&backend.manifest.fingerprint())),
        query: prepared.query,
        results: results(hits, params.offset, state.images().is_some()),
        timings_ms: Timings {
            read: milliseconds(read),
            decode: milliseconds(prepared.decode),
            preprocess: milliseconds(prepared.preprocess),
            embed: milliseconds(embed),
            search: milliseconds(search),
            total: milliseconds(start.elapsed()),
        },
    };
    let body = serde_json::to_vec(&response).map_err(|error| ApiError::Internal(error.to_string()))?;
    state.observed(Stage::Respond, responding.elapsed());
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body)
        .into_response())
}

struct Prepared {
    /// `[3, height, width]`, normalised.
    pixels: Vec<f32>,
    query: QueryImage,
    decode: Duration,
    preprocess: Duration,
}

/// Image file to the model's input, on the CPU pool.
async fn prepare(
    state: &AppState,
    backend: &Arc<Backend>,
    image: axum::body::Bytes,
) -> Result<Prepared, ApiError> {
    let start = Instant::now();
    let (backend, limits) = (Arc::clone(backend), state.options().decode_limits);
    let prepared = state
        .cpu_pool()
        .run(move || {
            let decoded = dfml_models::decode(&image, &limits)?;
            let decode = start.elapsed();
            let transform = backend.transform();
            let mut pixels = vec![0.0; 3 * transform.crop_height as usize * transform.crop_width as usize];
            transform.normalize_into(&transform.resize_crop(&decoded), &mut pixels);
            let query = QueryImage { width: decoded.width, height: decoded.height };
            Ok(Prepared { pixels, query, decode, preprocess: start.elapsed() - decode })
        })
        .await?
        .inspect_err(|error: &DecodeError| state.metrics().decode_failed(error.kind()))?;
    state.observed(Stage::Decode, prepared.decode);
    state.observed(Stage::Preprocess, prepared.preprocess);
    Ok(prepared)
}

/// The nearest items, on the CPU pool.
async fn find(
    state: &AppState,
    backend: &Arc<Backend>,
    vector: Vec<f32>,
    params: &SearchParams,
    k: usize,
) -> Result<Vec<Hit>, ApiError> {
    let request = SearchRequest {
        k,
        offset: params.offset,
        threshold: params.threshold,
        filter: params.category.as_ref().map(|category| Filter::equals(CATEGORY_KEY, category)),
        group_by_product: !params.per_image,
        exact: params.exact,
        ..SearchRequest::new(vector)
    };
    let index = Arc::clone(&backend.index);
    Ok(state.cpu_pool().run(move || index.search(&request)).await??)
}

fn results(hits: Vec<Hit>, offset: usize, pictures: bool) -> Vec<SearchResult> {
    hits.into_iter().enumerate().map(|(index, hit)| result(offset + index + 1, hit, pictures)).collect()
}

fn result(rank: usize, hit: Hit, pictures: bool) -> SearchResult {
    let mut metadata = hit.metadata;
    let mut take = |key: &str| match metadata.remove(key) {
        Some(Value::String(text)) => Some(text),
        Some(other) => Some(other.to_string()),
        None => None,
    };
    let (name, category) = (take("name"), take("category"));
    let (creator, license) = (take("creator"), take("license"));
    let has_picture = take(PATH_KEY).is_some();
    metadata.remove(STAMP_KEY);
    SearchResult {
        rank,
        score: hit.score,
        image_url: (pictures && has_picture).then(|| images::url(&hit.item_id)),
        product_id: hit.product_id,
        item_id: hit.item_id,
        name,
        category,
        creator,
        license,
        metadata,
    }
}

impl AppState {
    /// Records the time of a stage and hands it back.
    fn observed(&self, stage: Stage, duration: Duration) -> Duration {
        self.metrics().stage(stage, duration);
        duration
    }
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let result = work.await;
    (result, start.elapsed())
}

fn milliseconds(duration: Duration) -> f64 {
    // To a microsecond: more digits say nothing and make the answer longer.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}
