//! Reading and changing the catalogue: `/v1/items` and `/v1/products`, one by one and in bulk.
//!
//! Every bulk request is answered 200 with a status for each part, in their order: one bad picture does not cost the others.

mod embed;
mod gate;
mod items;
mod patch;
mod products;
mod uploads;
mod write;

use dfml_index::Item;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, Problem, images, images::PATH_KEY};
use crate::bulk::STAMP_KEY;

use embed::Pictured;
pub(super) use gate::{Changes, Gate};
pub(super) use items::{__path_delete_items, __path_get_item, __path_list_items, __path_put_items};
pub(super) use items::{delete_items, get_item, list_items, put_items};
pub(super) use patch::{__path_patch_items, __path_patch_products, patch_items, patch_products};
pub(super) use products::{
    __path_delete_products, __path_get_product, __path_list_products, __path_put_products,
};
pub(super) use products::{delete_products, get_product, list_products, put_products};
pub(super) use uploads::Uploads;
use write::{write, write_alone};

/// Most entries of a page.
const PAGE_MAX: usize = 1000;
const PAGE_DEFAULT: usize = 50;

/// What became of each part of a bulk request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkResponse {
    /// How many parts failed.
    failed: usize,
    /// One for each part, in their order.
    results: Vec<Outcome>,
}

/// What became of one part.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcome {
    /// The item or product.
    id: String,
    /// The status that this part would have had alone.
    status: u16,
    /// What went wrong, if the status is not 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl BulkResponse {
    fn of(parts: impl IntoIterator<Item = (String, Result<(), ApiError>)>) -> Self {
        let results: Vec<Outcome> = parts
            .into_iter()
            .map(|(id, result)| {
                let problem = result.err().map(|error| Problem::of_part(&error));
                let status = problem.as_ref().map_or(200, |problem| problem.status().as_u16());
                Outcome { id, status, problem }
            })
            .collect();
        Self { failed: results.iter().filter(|outcome| outcome.problem.is_some()).count(), results }
    }
}

/// Ids of items or products.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IdsBody {
    /// The ids.
    #[schema(min_items = 1)]
    ids: Vec<String>,
}

/// Where a page begins and how long it is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// The page starts after this id: `next` of the page before.
    after: Option<String>,
    /// Most entries, 50 if not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl PageQuery {
    fn limit(&self) -> Result<usize, ApiError> {
        let limit = self.limit.unwrap_or(PAGE_DEFAULT);
        if (1..=PAGE_MAX).contains(&limit) {
            return Ok(limit);
        }
        let reason = format!("it must be from 1 to {PAGE_MAX}");
        Err(ApiError::InvalidParameter { name: "limit", value: limit.to_string(), reason })
    }
}

/// A stored picture.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ItemView {
    /// Its id.
    id: String,
    /// The product that it shows.
    product_id: String,
    /// What is known about it.
    metadata: Map<String, Value>,
    /// Where to get the picture; absent if the server shows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<String>,
    /// Its embedding; in lists only if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
}

impl ItemView {
    fn of(item: Item, pictures: bool, vector: bool) -> Self {
        let Item { id, product_id, vector: values, mut metadata } = item;
        metadata.remove(STAMP_KEY);
        let image_url = (pictures && metadata.contains_key(PATH_KEY)).then(|| images::url(&id));
        Self { id, product_id, metadata, image_url, vector: vector.then_some(values) }
    }
}
