//! `GET /v1/categories`: what a search can be narrowed down to.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Json, extract::State};
use dfml_index::{IndexError, VectorIndex};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ApiError, AppState};

/// The metadata key that the filter `category` looks at.
pub(super) const CATEGORY_KEY: &str = "category";
/// Counting walks the whole store, so it is done at most this often, and only while somebody asks.
const FRESH_FOR: Duration = Duration::from_secs(60);
/// The same where other servers change the catalogue too, of which this one hears nothing.
const FRESH_SHARED: Duration = Duration::from_secs(5);
/// Most categories that are listed, the largest first to stay.
const CATEGORIES_MAX: usize = 500;

/// The categories of the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Categories {
    /// By name.
    pub categories: Vec<Category>,
}

/// One category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Category {
    /// Its name, as the parameter `category` of a search takes it.
    pub name: String,
    /// Indexed pictures in it.
    pub items: usize,
}

/// The last count, and when it was made.
#[derive(Default)]
pub(super) struct CategoryCache(Mutex<Option<(Instant, Arc<Categories>)>>);

impl CategoryCache {
    fn fresh(&self, age_max: Duration) -> Option<Arc<Categories>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref()
            .filter(|(made, _)| made.elapsed() < age_max)
            .map(|(_, categories)| Arc::clone(categories))
    }

    /// Forgets the count: the index has been exchanged.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn keep(&self, categories: Categories) -> Arc<Categories> {
        let categories = Arc::new(categories);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), Arc::clone(&categories)));
        categories
    }
}

/// List categories
///
/// What a search can be narrowed down to, by the metadata key `category`. Counted at most once a minute.
#[utoipa::path(
    get, path = "/v1/categories", tag = "catalogue",
    responses((status = 200, description = "The categories, by name.", body = Categories)),
)]
pub(super) async fn categories(State(state): State<AppState>) -> Result<Json<Categories>, ApiError> {
    let backend = state.backend()?;
    let age_max = if backend.index.is_shared() { FRESH_SHARED } else { FRESH_FOR };
    let counted = match state.category_cache().fresh(age_max) {
        Some(counted) => counted,
        None => state.category_cache().keep(state.ask(&backend, count).await??),
    };
    Ok(Json(Categories::clone(&counted)))
}

fn count(index: &dyn VectorIndex) -> Result<Categories, IndexError> {
    let counts = index.texts(CATEGORY_KEY, CATEGORIES_MAX)?;
    let mut categories: Vec<_> = counts.into_iter().map(|(name, items)| Category { name, items }).collect();
    categories.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Categories { categories })
}
