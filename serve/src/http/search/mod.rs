//! `POST /v1/search`: from pictures, stored or sent, to the products that look most alike.

mod answer;
mod params;
mod request;
mod run;
mod upload;

use std::time::Instant;

use axum::{
    Json,
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use tracing::Instrument as _;

use super::{ApiError, AppState, Problem};
use crate::{metrics::Stage, traces};

pub(super) use answer::{BatchAnswer, BatchResponse, Shown};
pub use answer::{QueryImage, SearchResponse, SearchResult, Timings};
pub use request::{BatchBody, CropBox, Example, GroupBy, SearchBody};
use upload::Ask;

/// Searches of one batch that are worked on at the same time.
const BATCH_CONCURRENCY: usize = 4;

/// A search as a form, for the documentation: the fields of [`SearchBody`] as text beside the file. A form has no null.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a form that is read field by field")]
pub(super) struct SearchForm {
    /// The image file.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    image: Vec<u8>,
    /// How many results.
    #[schema(minimum = 1, nullable = false)]
    k: Option<usize>,
    /// How many of the best results to leave out.
    #[schema(nullable = false)]
    offset: Option<usize>,
    /// Only items of this category.
    #[schema(nullable = false)]
    category: Option<String>,
    /// A filter, as JSON.
    #[schema(nullable = false)]
    filter: Option<String>,
    /// Least cosine similarity.
    #[schema(nullable = false)]
    threshold: Option<f64>,
    /// Least probability that a result shows the query's product.
    #[schema(nullable = false)]
    min_probability: Option<f64>,
    /// Compare with every item.
    #[schema(nullable = false)]
    exact: Option<bool>,
    /// Effort of a graph search.
    #[schema(nullable = false)]
    effort: Option<usize>,
    /// One result per product or per picture.
    #[schema(nullable = false)]
    group_by: Option<GroupBy>,
    /// `left,top,width,height` as shares of the upright picture.
    #[schema(nullable = false)]
    crop: Option<String>,
    /// Search with a stored picture.
    #[schema(nullable = false)]
    item_id: Option<String>,
    /// Search with a stored product.
    #[schema(nullable = false)]
    product_id: Option<String>,
    /// More examples, as JSON.
    #[schema(nullable = false)]
    positive: Option<String>,
    /// Counter-examples, as JSON.
    #[schema(nullable = false)]
    negative: Option<String>,
    /// Also return embeddings.
    #[schema(nullable = false)]
    include_vectors: Option<bool>,
    /// Leave the examples out of the results.
    #[schema(nullable = false)]
    exclude_examples: Option<bool>,
}

/// Find what looks most alike
///
/// The query is a picture (as a form, as the body itself, or in JSON), a stored item or product, an embedding, or several examples
/// and counter-examples. With a form or a bare picture, all fields of the JSON body except `image` and `vector` may also stand
/// in the query string.
#[utoipa::path(
    post, path = "/v1/search", tag = "search",
    request_body(content(
        (SearchBody = "application/json"),
        (SearchForm = "multipart/form-data"),
        (Vec<u8> = "application/octet-stream"),
        (Vec<u8> = "image/*"),
    )),
    responses((status = 200, description = "The results, best first.", body = SearchResponse)),
)]
pub(super) async fn search(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let start = Instant::now();
    let backend = state.backend()?;
    // Before the body is read: its bytes are the first thing that costs memory.
    let (intake, request) = state.admission().intake(request, state.options().body_bytes_max)?;
    let reading = Ask::read(request, intake, &state);
    let (ask, intake) = reading.instrument(traces::stage(Stage::Read)).await?;
    let _place = intake.admit()?;
    let read = start.elapsed();
    state.metrics().stage(Stage::Read, read);
    let response = run::answer(&state, &backend, ask, read).await?;
    let responding = Instant::now();
    let body = serde_json::to_vec(&response).map_err(|error| ApiError::Internal(error.to_string()))?;
    state.metrics().stage(Stage::Respond, responding.elapsed());
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body)
        .into_response())
}

/// Many searches at a time
///
/// Each is answered or refused by itself: look at the status of each.
#[utoipa::path(
    post, path = "/v1/search/batch", tag = "search",
    request_body = BatchBody,
    responses((status = 200, description = "One answer for each search, in their order.", body = BatchResponse)),
)]
pub(super) async fn search_batch(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<BatchResponse>, ApiError> {
    let start = Instant::now();
    let backend = state.backend()?;
    let (BatchBody { searches }, _place) = state.admission().json(request, &state).await?;
    state.check_batch("searches", searches.len())?;
    state.metrics().stage(Stage::Read, start.elapsed());
    let answers = stream::iter(searches).map(|body| {
        let (state, backend) = (&state, &backend);
        async move {
            let ask = Ask { file: None, body };
            match run::answer(state, backend, ask, std::time::Duration::ZERO).await {
                Ok(response) => BatchAnswer { status: 200, response: Some(response), problem: None },
                Err(error) => {
                    let problem = Problem::of_part(&error);
                    BatchAnswer { status: problem.status().as_u16(), response: None, problem: Some(problem) }
                }
            }
        }
    });
    Ok(Json(BatchResponse { results: answers.buffered(BATCH_CONCURRENCY).collect().await }))
}
