//! Bounds on the requests that are worked on at a time and on the memory of their bodies. One more is refused at once rather than
//! queued without end.

use std::sync::Arc;

use axum::{extract::Request, http::header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiError;

/// Memory is counted in pieces of this size.
const PIECE_BYTES: usize = 4096;

/// The memory for the bodies of all requests together.
#[derive(Clone)]
pub(super) struct BodyMemory {
    pieces: Arc<Semaphore>,
    limit: usize,
}

impl BodyMemory {
    pub(super) fn new(bytes: usize) -> Self {
        let limit = (bytes / PIECE_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { pieces: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Sets memory aside for a body, or `None` if there is not enough left.
    fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        // A single request is never too large for an idle server: its own limit is checked elsewhere.
        let pieces = bytes.div_ceil(PIECE_BYTES).clamp(1, self.limit);
        Arc::clone(&self.pieces).try_acquire_many_owned(u32::try_from(pieces).unwrap_or(u32::MAX)).ok()
    }
}

/// Hands out places; a place is free again when it is dropped, however the request ends.
pub(super) struct Admission {
    places: Arc<Semaphore>,
    limit: usize,
    bodies: BodyMemory,
}

/// A place among the requests that are worked on, with memory for its body.
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    _memory: OwnedSemaphorePermit,
}

impl Admission {
    pub(super) fn new(limit: usize, bodies: BodyMemory) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(limit)), limit, bodies }
    }

    /// A place, or [`ApiError::Busy`] if all are taken or the memory for bodies is used up. A body whose size is not announced
    /// counts as the largest that is allowed.
    pub(super) fn enter(&self, request: &Request, body_bytes_max: usize) -> Result<Place, ApiError> {
        let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let bytes =
            announced.and_then(|length| length.parse().ok()).unwrap_or(body_bytes_max).min(body_bytes_max);
        self.take(bytes).ok_or(ApiError::Busy { limit: self.limit })
    }

    fn take(&self, bytes: usize) -> Option<Place> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { _place: place, _memory: self.bodies.reserve(bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_one_more_than_the_limit_and_admits_again_after_a_leave() {
        let admission = Admission::new(2, BodyMemory::new(1 << 20));
        let first = admission.take(1).expect("place 1");
        let _second = admission.take(1).expect("place 2");
        assert!(admission.take(1).is_none());
        drop(first);
        assert!(admission.take(1).is_some());
    }

    #[test]
    fn the_memory_of_bodies_is_bounded_across_all_kinds_of_requests() {
        let memory = BodyMemory::new(10 * PIECE_BYTES);
        let (searches, writes) = (Admission::new(9, memory.clone()), Admission::new(9, memory));
        let large = searches.take(8 * PIECE_BYTES).expect("fits");
        assert!(writes.take(3 * PIECE_BYTES).is_none() && writes.take(2 * PIECE_BYTES).is_some());
        drop(large);
        assert!(writes.take(100 * PIECE_BYTES).is_some(), "alone, as much as there is");
    }
}
