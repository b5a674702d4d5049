//! `/v1/items`: single pictures.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes full paths")]

use axum::{
    Json,
    extract::{Request, State},
};
use dfml_index::Item;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        ApiError, AppState,
        error::shortened,
        extract::{Parameters, PathId},
    },
    BulkResponse, IdsBody, ItemView, PageQuery, Pictured,
    embed::{check_id, make},
    write,
};

/// Pictures of one request that are worked on at the same time.
pub(super) const CONCURRENCY: usize = 4;

/// Items to be stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ItemsBody {
    /// The items; one that is there already is replaced.
    #[schema(min_items = 1)]
    items: Vec<NewItem>,
}

/// An item to be stored: either `image` or `vector` has to be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewItem {
    /// Names the picture; storing it again replaces it.
    #[schema(min_length = 1, max_length = 1024)]
    id: String,
    /// The product that it shows.
    #[schema(min_length = 1, max_length = 1024)]
    product_id: String,
    /// The picture: a data URI, bare base64, or, where the server allows it, an http or https address.
    #[schema(min_length = 1)]
    image: Option<String>,
    /// Its embedding by this model, in place of the picture.
    #[schema(min_items = 1)]
    vector: Option<Vec<f32>>,
    /// What is known about it. `name`, `category`, `creator` and `license` are shown; `path` names a file in the image folder.
    #[serde(default)]
    metadata: Map<String, Value>,
}

/// A page of the items.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ItemPage {
    /// In an order that does not change.
    items: Vec<ItemView>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Whether embeddings are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct VectorQuery {
    /// Also return the embedding.
    include_vectors: bool,
}

/// Store pictures
///
/// Each is embedded, and acknowledged after it is durable and can be found. Items that are there already are replaced.
#[utoipa::path(
    put, path = "/v1/items", tag = "catalogue", request_body = ItemsBody,
    responses((status = 200, description = "What became of each item.", body = BulkResponse)),
)]
pub(in crate::http) async fn put_items(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<BulkResponse>, ApiError> {
    let backend = state.backend()?;
    let (ItemsBody { items }, _place) = state.writes().json(request, &state).await?;
    state.check_batch("items", items.len())?;
    let made = stream::iter(items).map(|item| {
        let (state, backend) = (&state, &backend);
        let NewItem { id, product_id, image, vector, metadata } = item;
        async move {
            let name = id.clone();
            let made = match check_id("id", &id) {
                Ok(()) => make(state, backend, id, product_id, Pictured { image, vector, metadata }).await,
                Err(error) => Err(error),
            };
            (name, made.map(|made| made.item))
        }
    });
    let made: Vec<(String, Result<Item, ApiError>)> = made.buffered(CONCURRENCY).collect().await;
    let mut store = Vec::new();
    let outcomes: Vec<(String, Result<(), ApiError>)> =
        made.into_iter().map(|(id, made)| (id, made.map(|item| store.push(item)))).collect();
    if !store.is_empty() {
        write(&state, &backend, move |index, touched| {
            touched.extend(store.iter().map(|item| item.id.clone()));
            index.upsert(store)
        })
        .await?;
    }
    Ok(Json(BulkResponse::of(outcomes)))
}

/// Delete pictures
///
/// Acknowledged after they are durably gone.
#[utoipa::path(
    delete, path = "/v1/items", tag = "catalogue", request_body = IdsBody,
    responses((status = 200, description = "What became of each item; 404 for one that was not there.", body = BulkResponse)),
)]
pub(in crate::http) async fn delete_items(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<BulkResponse>, ApiError> {
    let backend = state.backend()?;
    let (IdsBody { ids }, _place) = state.writes().json(request, &state).await?;
    state.check_batch("ids", ids.len())?;
    let outcomes = write(&state, &backend, move |index, touched| {
        let mut outcomes = Vec::with_capacity(ids.len());
        for id in ids {
            if index.get(&id)?.is_some() {
                touched.push(id.clone());
                outcomes.push((id, Ok(())));
            } else {
                let absent = missing("item", &id);
                outcomes.push((id, Err(absent)));
            }
        }
        // Only what was there: an item that somebody stores at this moment is not deleted by a request that is told that it is absent.
        index.delete(touched)?;
        Ok(outcomes)
    })
    .await?;
    Ok(Json(BulkResponse::of(outcomes)))
}

/// List pictures
///
/// Page by page, in an order that does not change: that of their ids where the catalogue is in the server itself.
#[utoipa::path(
    get, path = "/v1/items", tag = "catalogue", params(PageQuery),
    responses((status = 200, description = "A page of items, without embeddings.", body = ItemPage)),
)]
pub(in crate::http) async fn list_items(
    State(state): State<AppState>,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<ItemPage>, ApiError> {
    let backend = state.backend()?;
    let limit = page.limit()?;
    let items = state.ask(&backend, move |index| index.page(page.after.as_deref(), limit)).await??;
    let next = (items.len() == limit).then(|| items.last().map(|item| item.id.clone())).flatten();
    let pictures = state.shows_pictures();
    Ok(Json(ItemPage {
        items: items.into_iter().map(|item| ItemView::of(item, pictures, false)).collect(),
        next,
    }))
}

/// One picture
#[utoipa::path(
    get, path = "/v1/items/{id}", tag = "catalogue",
    params(("id" = String, Path, description = "The item's id, percent-encoded (a slash is %2F)."), VectorQuery),
    responses((status = 200, description = "The item.", body = ItemView)),
)]
pub(in crate::http) async fn get_item(
    State(state): State<AppState>,
    PathId(id): PathId,
    Parameters(VectorQuery { include_vectors }): Parameters<VectorQuery>,
) -> Result<Json<ItemView>, ApiError> {
    let backend = state.backend()?;
    let asked = id.clone();
    let found = state.ask(&backend, move |index| index.get(&asked)).await??;
    let item = found.ok_or_else(|| missing("item", &id))?;
    Ok(Json(ItemView::of(item, state.shows_pictures(), include_vectors)))
}

pub(super) fn missing(kind: &'static str, id: &str) -> ApiError {
    ApiError::Missing { kind, id: shortened(id) }
}
