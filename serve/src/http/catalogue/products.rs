//! `/v1/products`: all pictures of a product together.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes full paths")]

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
};
use dfml_index::{Item, ProductSummary, VectorIndex};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    super::{
        ApiError, AppState, Backend,
        extract::{Parameters, PathId},
        search::Shown,
    },
    BulkResponse, IdsBody, ItemView, PageQuery, Pictured,
    embed::{check_id, check_metadata, make},
    items::{CONCURRENCY, missing},
    write_alone,
};

/// Hexadecimal digits of a picture's digest in an id that the server makes.
const DIGEST_DIGITS: usize = 16;

/// Products to be stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ProductsBody {
    /// The products; the pictures of one that is there already are replaced by these.
    #[schema(min_items = 1)]
    products: Vec<NewProduct>,
}

/// A product to be stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewProduct {
    /// Names the product.
    #[schema(min_length = 1, max_length = 1024)]
    id: String,
    /// What is known about it; stored with each of its pictures.
    #[serde(default)]
    metadata: Map<String, Value>,
    /// Its pictures.
    #[schema(min_items = 1)]
    images: Vec<NewPicture>,
}

/// A picture of a product: either `image` or `vector` has to be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPicture {
    /// Names the picture; made of the product's id and the picture's digest if not given.
    #[schema(min_length = 1, max_length = 1024)]
    id: Option<String>,
    /// The picture: a data URI, bare base64, or, where the server allows it, an http or https address.
    #[schema(min_length = 1)]
    image: Option<String>,
    /// Its embedding by this model, in place of the picture.
    #[schema(min_items = 1)]
    vector: Option<Vec<f32>>,
    /// What is known about this picture; wins over the product's.
    #[serde(default)]
    metadata: Map<String, Value>,
}

/// A page of the products.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ProductPage {
    /// In an order that does not change.
    products: Vec<ProductRow>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A product in a list.
#[derive(Debug, Serialize, ToSchema)]
struct ProductRow {
    /// Its id.
    id: String,
    /// How many pictures show it.
    items: usize,
    /// Its oldest picture.
    item_id: String,
    /// Its name.
    name: Option<String>,
    /// Its category.
    category: Option<String>,
    /// Who made the oldest picture.
    creator: Option<String>,
    /// The licence of the oldest picture.
    license: Option<String>,
    /// Where to get the oldest picture; absent if the server shows none.
    image_url: Option<String>,
}

/// A product with its pictures.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ProductView {
    /// Its id.
    id: String,
    /// Its pictures, oldest first.
    items: Vec<ItemView>,
}

/// Store products
///
/// All pictures of a product together: pictures that it had and that are not given again are deleted. A product is stored
/// as a whole or, if one of its pictures cannot be, not at all.
#[utoipa::path(
    put, path = "/v1/products", tag = "catalogue", request_body = ProductsBody,
    responses((status = 200, description = "What became of each product.", body = BulkResponse)),
)]
pub(in crate::http) async fn put_products(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<BulkResponse>, ApiError> {
    let backend = state.backend()?;
    let (ProductsBody { products }, _place) = state.writes().json(request, &state).await?;
    let pictures = products.iter().map(|product| product.images.len()).sum::<usize>().max(products.len());
    state.check_batch("pictures", pictures)?;
    let mut outcomes = Vec::with_capacity(products.len());
    for product in products {
        let id = product.id.clone();
        let stored = put_product(&state, &backend, product).await;
        outcomes.push((id, stored));
    }
    Ok(Json(BulkResponse::of(outcomes)))
}

async fn put_product(state: &AppState, backend: &Arc<Backend>, product: NewProduct) -> Result<(), ApiError> {
    let NewProduct { id, metadata, images } = product;
    check_id("id", &id)?;
    check_metadata(&metadata)?;
    if images.is_empty() {
        let reason = "a product has at least one picture".to_owned();
        return Err(ApiError::Unprocessable { code: "invalid_item", reason });
    }
    let made = stream::iter(images).map(|picture| {
        let (product, known) = (id.clone(), metadata.clone());
        async move {
            let metadata = known.into_iter().chain(picture.metadata).collect();
            let pictured = Pictured { image: picture.image, vector: picture.vector, metadata };
            let mut made = make(state, backend, String::new(), product, pictured).await?;
            made.item.id = picture
                .id
                .unwrap_or_else(|| format!("{}/{}", made.item.product_id, &made.sha256[..DIGEST_DIGITS]));
            check_id("picture id", &made.item.id)?;
            Ok::<Item, ApiError>(made.item)
        }
    });
    let made: Vec<Result<Item, ApiError>> = made.buffered(CONCURRENCY).collect().await;
    let items = made.into_iter().collect::<Result<Vec<_>, _>>()?;
    write_alone(state, backend, move |index, touched| {
        let kept: BTreeSet<String> = items.iter().map(|item| item.id.clone()).collect();
        let before = index.product(&id)?.into_iter().map(|item| item.id);
        let gone: Vec<String> = before.filter(|id| !kept.contains(id)).collect();
        touched.extend(kept.into_iter().chain(gone.iter().cloned()));
        // First in, then out: the product can be found at every moment.
        index.upsert(items)?;
        index.delete(&gone)?;
        Ok(())
    })
    .await
}

/// Delete products
///
/// With all of their pictures. Acknowledged after they are durably gone.
#[utoipa::path(
    delete, path = "/v1/products", tag = "catalogue", request_body = IdsBody,
    responses((status = 200, description = "What became of each product; 404 for one that was not there.", body = BulkResponse)),
)]
pub(in crate::http) async fn delete_products(
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<BulkResponse>, ApiError> {
    let backend = state.backend()?;
    let (IdsBody { ids }, _place) = state.writes().json(request, &state).await?;
    state.check_batch("ids", ids.len())?;
    let outcomes = write_alone(&state, &backend, move |index, touched| {
        let mut outcomes = Vec::with_capacity(ids.len());
        for id in &ids {
            let items = index.product(id)?;
            outcomes.push((id.clone(), if items.is_empty() { Err(missing("product", id)) } else { Ok(()) }));
            touched.extend(items.into_iter().map(|item| item.id));
        }
        index.delete_products(&ids)?;
        Ok(outcomes)
    })
    .await?;
    Ok(Json(BulkResponse::of(outcomes)))
}

/// List products
///
/// Page by page, in an order that does not change: that of their ids where the catalogue is in the server itself.
#[utoipa::path(
    get, path = "/v1/products", tag = "catalogue", params(PageQuery),
    responses((status = 200, description = "A page of products.", body = ProductPage)),
)]
pub(in crate::http) async fn list_products(
    State(state): State<AppState>,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<ProductPage>, ApiError> {
    let backend = state.backend()?;
    let limit = page.limit()?;
    let pictures = state.shows_pictures();
    let read = move |index: &dyn VectorIndex| {
        let summaries = index.products(page.after.as_deref(), limit)?;
        let next = (summaries.len() == limit)
            .then(|| summaries.last().map(|last| last.product_id.clone()))
            .flatten();
        let mut products = Vec::with_capacity(summaries.len());
        for summary in summaries {
            products.extend(row(index, summary, pictures)?);
        }
        Ok::<_, ApiError>(ProductPage { products, next })
    };
    Ok(Json(state.ask(&backend, read).await??))
}

/// `None` if the product has gone since it was listed.
fn row(
    index: &dyn VectorIndex,
    summary: ProductSummary,
    pictures: bool,
) -> Result<Option<ProductRow>, ApiError> {
    let ProductSummary { product_id, items } = summary;
    let Some(oldest) = index.product(&product_id)?.into_iter().next() else { return Ok(None) };
    let Shown { name, category, creator, license, image_url, .. } =
        Shown::of(&oldest.id, oldest.metadata, pictures);
    Ok(Some(ProductRow {
        id: product_id,
        items,
        item_id: oldest.id,
        name,
        category,
        creator,
        license,
        image_url,
    }))
}

/// One product with its pictures
#[utoipa::path(
    get, path = "/v1/products/{id}", tag = "catalogue",
    params(("id" = String, Path, description = "The product's id, percent-encoded (a slash is %2F).")),
    responses((status = 200, description = "The product, without embeddings.", body = ProductView)),
)]
pub(in crate::http) async fn get_product(
    State(state): State<AppState>,
    PathId(id): PathId,
) -> Result<Json<ProductView>, ApiError> {
    let backend = state.backend()?;
    let asked = id.clone();
    let items = state.ask(&backend, move |index| index.product(&asked)).await??;
    if items.is_empty() {
        return Err(missing("product", &id));
    }
    let pictures = state.shows_pictures();
    Ok(Json(ProductView {
        id,
        items: items.into_iter().map(|item| ItemView::of(item, pictures, false)).collect(),
    }))
}
