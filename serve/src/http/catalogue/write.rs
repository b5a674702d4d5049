//! The one way in which a request changes the index.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use dfml_index::{IndexError, VectorIndex};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::super::{ApiError, AppState, Backend};

/// Lets writers through side by side, and an exchange of the model alone. While the next model's catalogue is being made, it
/// notes which items change, so that none of them is lost in the exchange.
#[derive(Default)]
pub(in crate::http) struct Gate {
    lock: Arc<RwLock<()>>,
    journal: Mutex<Option<BTreeSet<String>>>,
}

impl Gate {
    /// Starts noting changes.
    pub(in crate::http) fn start_journal(&self) {
        *self.journal() = Some(BTreeSet::new());
    }

    /// Stops noting changes.
    pub(in crate::http) fn stop_journal(&self) {
        *self.journal() = None;
    }

    /// The items that have changed since the last call.
    pub(in crate::http) fn take_journal(&self) -> BTreeSet<String> {
        self.journal().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Waits until nobody writes, and keeps everybody from writing until the guard is dropped.
    pub(in crate::http) fn close(&self) -> OwnedRwLockWriteGuard<()> {
        // Called from the exchange's own thread, never from one that runs tasks.
        let lock = Arc::clone(&self.lock);
        tokio::runtime::Handle::current().block_on(lock.write_owned())
    }

    async fn enter(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.lock).read_owned().await
    }

    /// Notes changes.
    pub(in crate::http) fn note(&self, ids: impl IntoIterator<Item = String>) {
        if let Some(journal) = self.journal().as_mut() {
            journal.extend(ids);
        }
    }

    fn journal(&self) -> std::sync::MutexGuard<'_, Option<BTreeSet<String>>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes the index of `backend`, on a thread that may block. `change` returns its result and the ids of the items that it touched.
///
/// # Errors
/// [`ApiError::Conflict`] if another model has taken over meanwhile: vectors of two models are never mixed.
pub(in crate::http) async fn write<T: Send + 'static>(
    state: &AppState,
    backend: &Arc<Backend>,
    change: impl FnOnce(&dyn VectorIndex) -> Result<(T, Vec<String>), IndexError> + Send + 'static,
) -> Result<T, ApiError> {
    let guard = state.gate().enter().await;
    if !Arc::ptr_eq(&state.backend()?, backend) {
        let reason = "the model was exchanged while this request was worked on: send it again".to_owned();
        return Err(ApiError::Conflict { reason });
    }
    let (gate_of, index) = (state.clone(), Arc::clone(&backend.index));
    let span = tracing::Span::current();
    // Not cancelled with its request: a change that has begun is finished, and noted.
    let changed = tokio::task::spawn_blocking(move || {
        let _guard = guard;
        let (value, touched) = span.in_scope(|| change(&*index))?;
        gate_of.gate().note(touched);
        Ok::<T, IndexError>(value)
    });
    let value = changed.await.map_err(|error| ApiError::Internal(format!("a write failed: {error}")))??;
    state.category_cache().clear();
    Ok(value)
}
