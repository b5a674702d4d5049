//! A bound on the requests that are worked on at a time. One more is refused at once rather than queued without end.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiError;

/// Hands out places; a place is free again when its permit is dropped, however the request ends.
pub(super) struct Admission {
    places: Arc<Semaphore>,
    limit: usize,
}

impl Admission {
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(limit)), limit }
    }

    /// A place, or [`ApiError::Busy`] if all are taken.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| ApiError::Busy { limit: self.limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_one_more_than_the_limit_and_admits_again_after_a_leave() {
        let admission = Admission::new(2);
        let first = admission.enter().expect("place 1");
        let _second = admission.enter().expect("place 2");
        assert!(matches!(admission.enter(), Err(ApiError::Busy { limit: 2 })));
        drop(first);
        assert!(admission.enter().is_ok());
    }
}
