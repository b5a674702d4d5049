//! The one way in which a request changes the index.

use std::sync::Arc;

use dfml_index::{IndexError, VectorIndex};

use super::super::{ApiError, AppState, Backend};

/// Changes the index of `backend`, on a thread that may block, side by side with other requests. `change` gets a list to fill with the ids
/// of the items that it is about to touch.
///
/// # Errors
/// [`ApiError::Conflict`] if another model has taken over meanwhile: vectors of two models are never mixed.
pub(super) async fn write<T: Send + 'static>(
    state: &AppState,
    backend: &Arc<Backend>,
    change: impl FnOnce(&dyn VectorIndex, &mut Vec<String>) -> Result<T, IndexError> + Send + 'static,
) -> Result<T, ApiError> {
    let guard = state.gate().enter().await;
    carry_out(state, backend, guard, change).await
}

/// As [`write()`], while nothing else is written through this server: for a change that depends on what it reads first, such as which
/// items a product has.
///
/// Servers that share a catalogue do not wait for each other. If two of them replace the same product at the same moment, the items of
/// both requests may be left; and an item that another server moves out of a product while this one replaces that product may be deleted
/// with it. Whoever writes the same products through several servers has to take turns.
///
/// # Errors
/// As [`write()`].
pub(super) async fn write_alone<T: Send + 'static>(
    state: &AppState,
    backend: &Arc<Backend>,
    change: impl FnOnce(&dyn VectorIndex, &mut Vec<String>) -> Result<T, IndexError> + Send + 'static,
) -> Result<T, ApiError> {
    let guard = state.gate().enter_alone().await;
    carry_out(state, backend, guard, change).await
}

async fn carry_out<T: Send + 'static>(
    state: &AppState,
    backend: &Arc<Backend>,
    guard: impl Send + 'static,
    change: impl FnOnce(&dyn VectorIndex, &mut Vec<String>) -> Result<T, IndexError> + Send + 'static,
) -> Result<T, ApiError> {
    if !Arc::ptr_eq(&state.backend()?, backend) {
        let reason = "the model was exchanged while this request was worked on: send it again".to_owned();
        return Err(ApiError::Conflict { reason });
    }
    let (state, index) = (state.clone(), Arc::clone(&backend.index));
    let span = tracing::Span::current();
    // Not cancelled with its request: a change that has begun is finished, and noted.
    let changed = tokio::task::spawn_blocking(move || {
        let _guard = guard;
        let mut touched = Vec::new();
        let outcome = span.in_scope(|| change(&*index, &mut touched));
        // Also of a change that failed: a part of it may have been made.
        state.note(touched);
        state.category_cache().mark_stale();
        outcome
    });
    let outcome = changed.await.map_err(|error| ApiError::Internal(format!("a write failed: {error}")))?;
    outcome.map_err(ApiError::from)
}
