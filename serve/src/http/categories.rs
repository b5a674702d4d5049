//! `GET /v1/categories`: what a search can be narrowed down to.
//!
//! Counting walks the whole catalogue. So there is one walk at a time, however many ask, on a thread of its own rather than on one of those
//! that searches need, and none begins before somebody asks and something may have changed.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use dfml_index::{IndexError, VectorIndex};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use utoipa::ToSchema;

use super::{ApiError, AppState, Backend};

/// The metadata key that the filter `category` looks at.
pub(super) const CATEGORY_KEY: &str = "category";
/// From the end of a walk to the beginning of the next one at least, however much is written and asked meanwhile.
const APART: Duration = Duration::from_secs(3);
/// After this time a count is stale where other servers change the catalogue, of which this one hears nothing.
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

/// The last count, which is shown until the next one is made, and the walk that makes it. Those who have nothing to show yet are told when
/// a walk has ended.
#[derive(Default)]
pub(super) struct CategoryCache(watch::Sender<Known>);

#[derive(Default)]
struct Known {
    /// Changes that requests and imports have made. A count is of the catalogue as it is if there was none since before its walk.
    changes: u64,
    /// Times that the last count was forgotten. The walk that was under way then is of no use any more.
    cleared: u64,
    /// What the last walk came to, unless that was forgotten.
    last: Option<Walked>,
    /// Whether a walk is under way, or waits for its time.
    is_walking: bool,
    /// Walks that have ended, and when the last one did.
    ended: u64,
    ended_at: Option<Instant>,
}

/// How things stood when a walk began.
struct Start {
    changes: u64,
    cleared: u64,
    at: Instant,
}

/// What a walk came to.
struct Walked {
    start: Start,
    counted: Result<Arc<Categories>, Failure>,
}

/// Why a walk came to nothing, for each of those who waited for it.
#[derive(Clone)]
enum Failure {
    /// The engine that holds the index does not answer.
    Unavailable { place: String, detail: String },
    /// Anything else, in words.
    Other(String),
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Unavailable { place, detail } => Self::Unavailable { place, detail },
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable { place, detail } => Self::Index(IndexError::Unavailable { place, detail }),
            Failure::Other(what) => Self::Internal(format!("counting categories: {what}")),
        }
    }
}

impl CategoryCache {
    /// The catalogue has changed: what was counted before, or is being counted, is stale.
    pub(super) fn mark_stale(&self) {
        self.0.send_if_modified(|known| {
            known.changes += 1;
            // Nobody waits for this.
            false
        });
    }

    /// Forgets what was counted and what is being counted: the index has been exchanged.
    pub(super) fn clear(&self) {
        self.0.send_modify(|known| {
            known.cleared += 1;
            known.last = None;
        });
    }

    /// The walks that have ended.
    fn ended(&self) -> u64 {
        self.0.borrow().ended
    }

    /// What can be answered to somebody who has asked after so many walks, and whether one more is wanted; after `fresh_for` a count is
    /// stale though nothing is known to have changed. A failure is told to those who
    /// have waited for that walk; who comes later waits for the next one.
    fn look(
        &self,
        fresh_for: Option<Duration>,
        ended: u64,
    ) -> (Option<Result<Arc<Categories>, Failure>>, bool) {
        let known = self.0.borrow();
        let Some(Walked { start, counted }) = &known.last else { return (None, true) };
        match counted {
            Ok(categories) => {
                let is_old = fresh_for.is_some_and(|limit| start.at.elapsed() >= limit);
                let is_stale = start.changes != known.changes || is_old;
                (Some(Ok(Arc::clone(categories))), is_stale)
            }
            Err(failure) if known.ended > ended => (Some(Err(failure.clone())), false),
            Err(_) => (None, true),
        }
    }

    /// Whether the caller is the one who walks: nobody else does.
    fn reserve(&self) -> bool {
        let mut is_mine = false;
        self.0.send_if_modified(|known| {
            is_mine = !std::mem::replace(&mut known.is_walking, true);
            false
        });
        is_mine
    }

    /// When the next walk may begin, if not at once.
    fn not_before(&self) -> Option<Instant> {
        self.0.borrow().ended_at.map(|ended| ended + APART)
    }

    fn start(&self) -> Start {
        let known = self.0.borrow();
        Start { changes: known.changes, cleared: known.cleared, at: Instant::now() }
    }

    /// The walk has ended. What it came to is kept unless it is of an index that has been exchanged meanwhile.
    fn end(&self, start: Start, counted: Result<Arc<Categories>, Failure>) {
        self.0.send_modify(|known| {
            known.is_walking = false;
            known.ended += 1;
            known.ended_at = Some(Instant::now());
            if start.cleared == known.cleared {
                known.last = Some(Walked { start, counted });
            }
        });
    }
}

/// List categories
///
/// What a search can be narrowed down to, by the metadata key `category`. Who asks is answered at once from the last count, however old.
/// If something has changed since that began, asking also starts the next one in the background, a few seconds after the last at the
/// earliest; a change shows when a count that began after it has ended. What other servers write is noticed within seconds. Where there is
/// no count at all, after a start or an exchange of the model, the answer waits for one.
#[utoipa::path(
    get, path = "/v1/categories", tag = "catalogue",
    responses((status = 200, description = "The categories, by name.", body = Categories)),
)]
pub(super) async fn categories(State(state): State<AppState>) -> Result<Json<Categories>, ApiError> {
    let counted = current(&state).await?;
    Ok(Json(Categories::clone(&counted)))
}

/// The last count, be it stale. Without one, that of the walk under way or the next.
async fn current(state: &AppState) -> Result<Arc<Categories>, ApiError> {
    let fresh_for = state.backend()?.index.is_shared().then_some(FRESH_SHARED);
    let cache = state.category_cache();
    let mut walks = cache.0.subscribe();
    let ended = cache.ended();
    loop {
        let (answer, is_walk_wanted) = cache.look(fresh_for, ended);
        if is_walk_wanted && cache.reserve() {
            // Not cancelled with the request: others may wait for it.
            tokio::spawn(walk(state.clone()));
        }
        if let Some(answer) = answer {
            return answer.map_err(ApiError::from);
        }
        // The sender is in the state, which outlives this.
        walks.changed().await.map_err(|error| ApiError::Internal(error.to_string()))?;
    }
}

/// Counts once, as soon as that may be.
async fn walk(state: AppState) {
    let cache = state.category_cache();
    if let Some(time) = cache.not_before() {
        sleep_until(time).await;
    }
    // Before the index is looked up: if another takes its place in between, the count is thrown away.
    let start = cache.start();
    let counted = match state.backend() {
        Ok(backend) => count_aside(backend).await,
        Err(error) => Err(Failure::Other(error.to_string())),
    };
    cache.end(start, counted);
}

/// Counts on a thread that may block: those of the CPU pool are for searches.
async fn count_aside(backend: Arc<Backend>) -> Result<Arc<Categories>, Failure> {
    match tokio::task::spawn_blocking(move || count(&*backend.index)).await {
        Ok(counted) => Ok(Arc::new(counted?)),
        Err(panic) => Err(Failure::Other(panic.to_string())),
    }
}

fn count(index: &dyn VectorIndex) -> Result<Categories, IndexError> {
    let counts = index.texts(CATEGORY_KEY, CATEGORIES_MAX)?;
    let mut categories: Vec<_> = counts.into_iter().map(|(name, items)| Category { name, items }).collect();
    categories.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Categories { categories })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What somebody who has just asked is answered: how many categories there are, if that is known, and whether a walk is wanted.
    fn look(cache: &CategoryCache) -> (Option<usize>, bool) {
        let (answer, is_walk_wanted) = cache.look(None, cache.ended());
        (answer.and_then(Result::ok).map(|counted| counted.categories.len()), is_walk_wanted)
    }

    fn counted(categories: usize) -> Result<Arc<Categories>, Failure> {
        let category = |number: usize| Category { name: number.to_string(), items: 1 };
        Ok(Arc::new(Categories { categories: (0..categories).map(category).collect() }))
    }

    #[test]
    fn one_walk_at_a_time_and_what_changes_meanwhile_makes_its_count_stale() {
        let cache = CategoryCache::default();
        assert_eq!(look(&cache), (None, true));
        assert!(cache.reserve() && !cache.reserve(), "one is under way");
        let start = cache.start();
        cache.mark_stale();
        cache.end(start, counted(1));
        assert_eq!(look(&cache), (Some(1), true), "shown all the same, and to be counted again");
        assert!(cache.not_before().is_some_and(|time| time > Instant::now()), "but not at once");
        assert!(cache.reserve());
        cache.end(cache.start(), counted(2));
        assert_eq!(look(&cache), (Some(2), false));
        assert!(cache.look(Some(Duration::ZERO), cache.ended()).1, "in the end for its age alone");
        cache.mark_stale();
        assert_eq!(look(&cache), (Some(2), true));
    }

    #[test]
    fn what_was_counted_in_the_other_index_is_never_shown() {
        let cache = CategoryCache::default();
        cache.end(cache.start(), counted(1));
        let start = cache.start();
        cache.clear();
        assert_eq!(look(&cache), (None, true), "the last count is forgotten");
        cache.end(start, counted(1));
        assert_eq!(look(&cache), (None, true), "and so is the one that was under way");
        cache.end(cache.start(), counted(2));
        assert_eq!(look(&cache), (Some(2), false));
    }

    #[test]
    fn a_failure_is_told_to_those_who_waited_for_it() {
        let cache = CategoryCache::default();
        let ended = cache.ended();
        let failure = Failure::Unavailable { place: "there".to_owned(), detail: "silence".to_owned() };
        cache.end(cache.start(), Err(failure));
        let (answer, is_walk_wanted) = cache.look(None, ended);
        let error = answer.and_then(Result::err).map(ApiError::from);
        assert!(matches!(error, Some(ApiError::Index(IndexError::Unavailable { .. }))) && !is_walk_wanted);
        assert_eq!(look(&cache), (None, true), "who comes later waits for the next walk");
    }
}
