//! `GET /v1/categories`: what a search can be narrowed down to.

use std::{
    collections::BTreeMap,
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
/// Items read from the store at a time.
const PAGE_ITEMS: usize = 1024;
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
    fn fresh(&self) -> Option<Arc<Categories>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref()
            .filter(|(made, _)| made.elapsed() < FRESH_FOR)
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
    let counted = match state.category_cache().fresh() {
        Some(counted) => counted,
        None => {
            let index = Arc::clone(&backend.index);
            state.category_cache().keep(state.cpu_pool().run(move || count(&*index)).await??)
        }
    };
    Ok(Json(Categories::clone(&counted)))
}

fn count(index: &dyn VectorIndex) -> Result<Categories, IndexError> {
    let mut counts = BTreeMap::<String, usize>::new();
    let mut after = None::<String>;
    loop {
        let page = index.page(after.as_deref(), PAGE_ITEMS)?;
        for item in &page {
            if let Some(name) = item.metadata.get(CATEGORY_KEY).and_then(|value| value.as_str()) {
                *counts.entry(name.to_owned()).or_default() += 1;
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE_ITEMS => after = Some(last.id.clone()),
            _ => break,
        }
    }
    let mut categories: Vec<_> = counts.into_iter().map(|(name, items)| Category { name, items }).collect();
    categories.sort_by_key(|category| std::cmp::Reverse(category.items));
    categories.truncate(CATEGORIES_MAX);
    categories.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Categories { categories })
}
