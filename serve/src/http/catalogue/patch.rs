//! Changing what is known about items and products, without embedding anything again.

use axum::{
    Json,
    extract::{Request, State},
};
use dfml_index::Patch;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    super::{ApiError, AppState, extract::JsonBody},
    BulkResponse,
    embed::check_metadata,
    items::missing,
    write,
};

/// Changes to items.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ItemPatches {
    /// The changes.
    #[schema(min_items = 1)]
    items: Vec<Change>,
}

/// Changes to products.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ProductPatches {
    /// The changes; each is made to all pictures of its product.
    #[schema(min_items = 1)]
    products: Vec<Change>,
}

/// A change to the metadata of an item or a product.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    /// The item or product.
    #[schema(min_length = 1, max_length = 1024)]
    id: String,
    /// Merged into the metadata as RFC 7396 says: null removes a key.
    metadata: Map<String, Value>,
}

/// Change what is known about pictures
///
/// Their embeddings stay. Filters see the change as soon as it is acknowledged.
#[utoipa::path(
    patch, path = "/v1/items", tag = "catalogue", request_body = ItemPatches,
    responses((status = 200, description = "What became of each change; 404 for an item that is not there.", body = BulkResponse)),
)]
pub(in crate::http) async fn patch_items(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<BulkResponse>, ApiError> {
    let _place = state.writes().enter(&request, state.options().bulk_body_bytes_max)?;
    let JsonBody(ItemPatches { items }) = JsonBody::read(request, &state).await?;
    change(&state, items, false).await
}

/// Change what is known about products
///
/// The change is made to all pictures of each product.
#[utoipa::path(
    patch, path = "/v1/products", tag = "catalogue", request_body = ProductPatches,
    responses((status = 200, description = "What became of each change; 404 for a product that is not there.", body = BulkResponse)),
)]
pub(in crate::http) async fn patch_products(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<BulkResponse>, ApiError> {
    let _place = state.writes().enter(&request, state.options().bulk_body_bytes_max)?;
    let JsonBody(ProductPatches { products }) = JsonBody::read(request, &state).await?;
    change(&state, products, true).await
}

async fn change(
    state: &AppState,
    changes: Vec<Change>,
    products: bool,
) -> Result<Json<BulkResponse>, ApiError> {
    let backend = state.backend()?;
    state.check_batch("changes", changes.len())?;
    let outcomes = write(state, &backend, move |index| {
        let (mut outcomes, mut patches) = (Vec::with_capacity(changes.len()), Vec::new());
        for Change { id, metadata } in changes {
            if let Err(error) = check_metadata(&metadata) {
                outcomes.push((id, Err(error)));
                continue;
            }
            let ids: Vec<String> = if products {
                index.product(&id)?.into_iter().map(|item| item.id).collect()
            } else {
                index.get(&id)?.into_iter().map(|item| item.id).collect()
            };
            let there = if ids.is_empty() {
                Err(missing(if products { "product" } else { "item" }, &id))
            } else {
                Ok(())
            };
            outcomes.push((id, there));
            patches.extend(ids.into_iter().map(|id| Patch { id, metadata: metadata.clone() }));
        }
        let touched = patches.iter().map(|patch| patch.id.clone()).collect();
        index.patch(patches)?;
        Ok((outcomes, touched))
    })
    .await?;
    Ok(Json(BulkResponse::of(outcomes)))
}
