//! Changing what is known about items and products, without embedding anything again.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{Request, State},
};
use dfml_index::{IndexError, Patch, VectorIndex};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    super::{ApiError, AppState},
    BulkResponse,
    embed::check_metadata,
    items::missing,
    write, write_alone,
};

/// Items or products by their ids, and what became of each.
type Outcomes = Vec<(String, Result<(), ApiError>)>;

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
/// Their embeddings stay. Filters see the change as soon as it is acknowledged. A change that would make an item's metadata larger than
/// 64 KiB is refused.
#[utoipa::path(
    patch, path = "/v1/items", tag = "catalogue", request_body = ItemPatches,
    responses((status = 200, description = "What became of each change; 404 for an item that is not there.", body = BulkResponse)),
)]
pub(in crate::http) async fn patch_items(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<BulkResponse>, ApiError> {
    let (ItemPatches { items }, _place) = state.writes().json(request, &state).await?;
    change(&state, items, false).await
}

/// Change what is known about products
///
/// The change is made to all pictures of each product, or to none if it would make the metadata of one of them larger than 64 KiB.
#[utoipa::path(
    patch, path = "/v1/products", tag = "catalogue", request_body = ProductPatches,
    responses((status = 200, description = "What became of each change; 404 for a product that is not there.", body = BulkResponse)),
)]
pub(in crate::http) async fn patch_products(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<BulkResponse>, ApiError> {
    let (ProductPatches { products }, _place) = state.writes().json(request, &state).await?;
    change(&state, products, true).await
}

async fn change(
    state: &AppState,
    changes: Vec<Change>,
    products: bool,
) -> Result<Json<BulkResponse>, ApiError> {
    let backend = state.backend()?;
    state.check_batch("changes", changes.len())?;
    let outcomes = if products {
        // The items must still be the product's when they are changed.
        write_alone(state, &backend, move |index, touched| {
            apply(index, touched, changes, "product", |id| {
                Ok(index.product(id)?.into_iter().map(|item| item.id).collect())
            })
        })
        .await?
    } else {
        write(state, &backend, move |index, touched| {
            apply(index, touched, changes, "item", |id| Ok([id.to_owned()].into()))
        })
        .await?
    };
    Ok(Json(BulkResponse::of(outcomes)))
}

/// Makes the changes in one write, each to all of its items or to none. Returns what became of each.
fn apply(
    index: &dyn VectorIndex,
    touched: &mut Vec<String>,
    changes: Vec<Change>,
    kind: &'static str,
    items_of: impl Fn(&str) -> Result<BTreeSet<String>, IndexError>,
) -> Result<Outcomes, IndexError> {
    let (mut outcomes, mut patches) = (Outcomes::with_capacity(changes.len()), Vec::new());
    for Change { id, metadata } in changes {
        let checked = check_metadata(&metadata);
        if checked.is_ok() {
            let ids = items_of(&id)?;
            touched.extend(ids.iter().cloned());
            patches.push(Patch { ids, metadata });
        }
        outcomes.push((id, checked));
    }
    let good = outcomes.iter_mut().filter(|(_, checked)| checked.is_ok());
    for ((id, outcome), patched) in good.zip(index.patch(patches)?) {
        *outcome = match patched {
            Ok(0) => Err(missing(kind, id)),
            Ok(_) => Ok(()),
            Err(error) => Err(refused(error)),
        };
    }
    Ok(outcomes)
}

/// Under the name that too much metadata has where an item is stored.
fn refused(error: IndexError) -> ApiError {
    match error {
        IndexError::InvalidItem { .. } => {
            ApiError::Unprocessable { code: "invalid_metadata", reason: error.to_string() }
        }
        other => ApiError::Index(other),
    }
}
