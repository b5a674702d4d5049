//! From examples to results.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use dfml_index::{SearchRequest, VectorIndex};
use dfml_models::CropBox;
use tracing::Instrument as _;

use super::{
    super::{ApiError, AppState, Backend, categories::CATEGORY_KEY, picture},
    answer::{Presenter, QueryImage, SearchResponse, SearchResult, Timings, milliseconds},
    request::{Example, GroupBy, SearchBody},
    upload::Ask,
};
use crate::{metrics::Stage, traces};

/// The pictures of a query, as vectors, and where the time went.
#[derive(Default)]
struct Pictures {
    shown: Option<QueryImage>,
    decode: Duration,
    preprocess: Duration,
    embed: Duration,
}

/// Answers one search; `read` is the time that its body took.
pub(in crate::http) async fn answer(
    state: &AppState,
    backend: &Arc<Backend>,
    ask: Ask,
    read: Duration,
) -> Result<SearchResponse, ApiError> {
    let start = Instant::now();
    let Ask { file, body } = ask;
    body.check()?;
    let k = body.count(state.options().k_default, state.options().k_max)?;
    let mut pictures = Pictures::default();
    let request = SearchRequest {
        k,
        offset: body.offset,
        threshold: threshold(backend, &body)?,
        filter: body.condition(CATEGORY_KEY),
        group_by_product: body.group_by == GroupBy::Product,
        exclude_examples: body.exclude_examples,
        exact: body.exact,
        effort: body.effort,
        positive: pictures.positive(state, backend, file, &body).await?,
        negative: pictures.examples(state, backend, &body.negative).await?,
    };
    let calibrated = request.positive.len() == 1 && request.negative.is_empty();
    if body.min_probability.is_some() && !calibrated {
        let reason =
            "min_probability is the probability of a match with one example; there are several".to_owned();
        return Err(ApiError::Unprocessable { code: "several_examples", reason });
    }
    let searching = Instant::now();
    let asking = state.ask(backend, move |index| index.search(&request));
    let hits = asking.instrument(traces::stage(Stage::Search)).await??;
    let presenter = Presenter { backend, pictures: state.shows_pictures(), calibrated, offset: body.offset };
    let mut results = presenter.results(hits);
    if body.include_vectors {
        results = with_vectors(state, backend, results).await?;
    }
    let search = searching.elapsed();
    state.metrics().stage(Stage::Search, search);
    Ok(SearchResponse {
        model: backend.label(),
        query: pictures.shown,
        results,
        timings_ms: Timings {
            read: milliseconds(read),
            decode: milliseconds(pictures.decode),
            preprocess: milliseconds(pictures.preprocess),
            embed: milliseconds(pictures.embed),
            search: milliseconds(search),
            total: milliseconds(read + start.elapsed()),
        },
    })
}

impl Pictures {
    /// Everything that the results shall be like.
    async fn positive(
        &mut self,
        state: &AppState,
        backend: &Arc<Backend>,
        file: Option<Bytes>,
        body: &SearchBody,
    ) -> Result<Vec<dfml_index::Example>, ApiError> {
        let mut examples = Vec::new();
        let file = match (file, &body.image) {
            (Some(file), _) => Some(file),
            (None, Some(text)) => Some(picture::from_text(state, text).await?),
            (None, None) => None,
        };
        match file {
            Some(file) => {
                let part = match &body.crop {
                    Some(crop) => crop.part()?,
                    None => CropBox::WHOLE,
                };
                let embedded = picture::embed(state, backend, file, part).await?;
                self.shown = Some(QueryImage { width: embedded.width, height: embedded.height });
                examples.push(dfml_index::Example::Vector(self.timed(embedded)));
            }
            None if body.crop.is_some() => {
                let reason = "crop is a part of `image`, and there is none".to_owned();
                return Err(ApiError::Unprocessable { code: "crop_without_image", reason });
            }
            None => {}
        }
        examples.extend(body.item_id.clone().map(dfml_index::Example::Item));
        examples.extend(body.product_id.clone().map(dfml_index::Example::Product));
        examples.extend(body.vector.clone().map(dfml_index::Example::Vector));
        examples.extend(self.examples(state, backend, &body.positive).await?);
        if examples.is_empty() {
            let hint =
                "give something to search with: image, item_id, product_id, vector, or positive examples";
            return Err(ApiError::MissingField { field: "image", hint });
        }
        Ok(examples)
    }

    async fn examples(
        &mut self,
        state: &AppState,
        backend: &Arc<Backend>,
        examples: &[Example],
    ) -> Result<Vec<dfml_index::Example>, ApiError> {
        let mut found = Vec::with_capacity(examples.len());
        for example in examples {
            found.push(match example {
                Example::ItemId(id) => dfml_index::Example::Item(id.clone()),
                Example::ProductId(id) => dfml_index::Example::Product(id.clone()),
                Example::Vector(vector) => dfml_index::Example::Vector(vector.clone()),
                Example::Image(text) => {
                    let file = picture::from_text(state, text).await?;
                    let embedded = picture::embed(state, backend, file, CropBox::WHOLE).await?;
                    dfml_index::Example::Vector(self.timed(embedded))
                }
            });
        }
        Ok(found)
    }

    fn timed(&mut self, embedded: picture::Embedded) -> Vec<f32> {
        self.decode += embedded.decode;
        self.preprocess += embedded.preprocess;
        self.embed += embedded.embed;
        embedded.vector
    }
}

/// The least similarity that is wanted, from `threshold` and `min_probability`.
fn threshold(backend: &Backend, body: &SearchBody) -> Result<Option<f32>, ApiError> {
    let threshold = body.threshold.map(|threshold| threshold as f32);
    let Some(least) = body.min_probability else { return Ok(threshold) };
    let calibration = backend.manifest.calibration.as_ref().ok_or_else(|| ApiError::Unprocessable {
        code: "not_calibrated",
        reason: "min_probability needs a calibrated model; `dfml calibrate` makes one".to_owned(),
    })?;
    // Nothing is similar enough for a probability that the model never reaches.
    const UNREACHABLE: f64 = 2.0;
    let similarity = calibration.similarity(least).unwrap_or(UNREACHABLE) as f32;
    Ok(Some(threshold.map_or(similarity, |threshold| threshold.max(similarity))))
}

async fn with_vectors(
    state: &AppState,
    backend: &Arc<Backend>,
    mut results: Vec<SearchResult>,
) -> Result<Vec<SearchResult>, ApiError> {
    let filled = move |index: &dyn VectorIndex| {
        for result in &mut results {
            result.vector = index.get(&result.item_id)?.map(|item| item.vector);
        }
        Ok(results)
    };
    state.ask(backend, filled).await?
}
