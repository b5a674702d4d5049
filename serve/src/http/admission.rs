//! Bounds on the requests that are worked on at a time and on the memory of what they bring. One more is refused at once rather than
//! queued without end.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    body::{Body, Bytes},
    extract::Request,
};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ApiError, extract};

/// Memory is counted in pieces of this size.
const PIECE_BYTES: usize = 4096;

/// The memory for what all requests together bring.
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

    /// Pieces for so many bytes. A single request is never too large for an idle server: its own limit is checked elsewhere.
    fn pieces(&self, bytes: usize) -> usize {
        bytes.div_ceil(PIECE_BYTES).min(self.limit)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.pieces(bytes) <= self.pieces.available_permits()
    }

    /// Nothing yet, to grow.
    pub(super) fn hold(&self) -> Held {
        Held { memory: self.clone(), permit: None, bytes: 0 }
    }
}

/// What one request has taken of the memory; given back when it is dropped.
pub(super) struct Held {
    memory: BodyMemory,
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Held {
    /// Takes more, or nothing and returns false if there is not enough left.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let bytes = self.bytes.saturating_add(bytes);
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lacking = self.memory.pieces(bytes).saturating_sub(held);
        let lacking = u32::try_from(lacking).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.memory.pieces).try_acquire_many_owned(lacking) else { return false };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        self.bytes = bytes;
        true
    }

    /// The bytes that this is the memory of: it is given back with the last of them.
    pub(super) fn keep(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Kept { bytes, _held: self })
    }
}

/// Bytes with their memory.
struct Kept {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The end of a body for which there is no memory left.
#[derive(Debug, thiserror::Error)]
#[error("there is no memory left for the body")]
pub(super) struct NoRoom;

/// Hands out places; a place is free again when it is dropped, however the request ends.
pub(super) struct Admission {
    places: Arc<Semaphore>,
    limit: usize,
    bodies: BodyMemory,
}

/// A request on its way in.
pub(super) struct Intake {
    places: Arc<Semaphore>,
    limit: usize,
    memory: Arc<Mutex<Held>>,
}

/// A place among the requests that are worked on, with the memory that the request has brought along.
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    _memory: Arc<Mutex<Held>>,
}

impl Admission {
    pub(super) fn new(limit: usize, bodies: BodyMemory) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(limit)), limit, bodies }
    }

    /// Begins to take a request in.
    ///
    /// Memory is counted as it arrives, and the place is taken by [`Intake::admit`] once everything is there: whoever announces
    /// much and sends little, or sends slowly, takes nothing away from the others.
    ///
    /// # Errors
    /// [`ApiError::Busy`] if no place is free; [`ApiError::BodiesFull`] or [`ApiError::BodyTooLarge`] if there is no room for what it
    /// announces.
    pub(super) fn intake(
        &self,
        request: Request,
        body_bytes_max: usize,
    ) -> Result<(Intake, Request), ApiError> {
        let announced = extract::announced_size(&request, body_bytes_max)?;
        if self.places.available_permits() == 0 {
            return Err(ApiError::Busy { limit: self.limit });
        }
        if !self.bodies.has_room(announced) {
            return Err(ApiError::BodiesFull);
        }
        let memory = Arc::new(Mutex::new(self.bodies.hold()));
        let counting = Arc::clone(&memory);
        let request = request.map(|body| {
            Body::from_stream(body.into_data_stream().map(move |chunk| match chunk {
                Ok(chunk) if !grow(&counting, chunk.len()) => Err(axum::Error::new(NoRoom)),
                other => other,
            }))
        });
        Ok((Intake { places: Arc::clone(&self.places), limit: self.limit, memory }, request))
    }
}

impl Intake {
    /// Sets memory aside for what the body becomes when it is understood.
    pub(super) fn set_aside(&self, bytes: usize) -> Result<(), ApiError> {
        if grow(&self.memory, bytes) { Ok(()) } else { Err(ApiError::BodiesFull) }
    }

    /// Takes a place.
    pub(super) fn admit(self) -> Result<Place, ApiError> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok(Place { _place: place, _memory: self.memory }),
            Err(_) => Err(ApiError::Busy { limit: self.limit }),
        }
    }
}

fn grow(memory: &Mutex<Held>, bytes: usize) -> bool {
    memory.lock().unwrap_or_else(PoisonError::into_inner).grow(bytes)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// A request that announces nothing and brings these chunks.
    fn bringing(chunks: &[usize]) -> Request {
        let chunks: Vec<_> =
            chunks.iter().map(|&length| Ok::<_, axum::Error>(Bytes::from(vec![0; length]))).collect();
        Request::new(Body::from_stream(stream::iter(chunks)))
    }

    async fn read(request: Request) -> Result<Bytes, ApiError> {
        extract::read(request, usize::MAX).await
    }

    fn begin(admission: &Admission) -> Result<(Intake, Request), ApiError> {
        admission.intake(bringing(&[]), usize::MAX)
    }

    #[test]
    fn refuses_one_more_than_the_limit_and_admits_again_after_a_leave() {
        let admission = Admission::new(2, BodyMemory::new(1 << 20));
        let place = || begin(&admission).and_then(|(intake, _)| intake.admit());
        let first = place().expect("place 1");
        let _second = place().expect("place 2");
        assert!(matches!(place(), Err(ApiError::Busy { limit: 2 })));
        drop(first);
        assert!(place().is_ok());
    }

    #[test]
    fn a_request_that_is_still_coming_holds_no_place() {
        let admission = Admission::new(1, BodyMemory::new(1 << 20));
        let (slow, _body) = begin(&admission).expect("begins");
        let (quick, _) = begin(&admission).expect("begins as well");
        let place = quick.admit().expect("takes the place");
        assert!(matches!(slow.admit(), Err(ApiError::Busy { .. })), "it is taken meanwhile");
        drop(place);
    }

    #[tokio::test]
    async fn the_memory_of_bodies_is_bounded_across_all_kinds_of_requests() {
        let memory = BodyMemory::new(10 * PIECE_BYTES);
        let (searches, writes) = (Admission::new(9, memory.clone()), Admission::new(9, memory));
        let (large, request) = searches.intake(bringing(&[4 * PIECE_BYTES; 2]), usize::MAX).expect("begins");
        assert_eq!(read(request).await.expect("fits").len(), 8 * PIECE_BYTES);
        let (small, request) = writes.intake(bringing(&[PIECE_BYTES; 3]), usize::MAX).expect("begins");
        assert!(matches!(read(request).await, Err(ApiError::BodiesFull)), "no room for the third chunk");
        assert!(matches!(large.set_aside(PIECE_BYTES), Err(ApiError::BodiesFull)));
        drop(small);
        assert!(large.set_aside(PIECE_BYTES).is_ok());
        drop(large);
        let (_intake, request) = writes.intake(bringing(&[100 * PIECE_BYTES]), usize::MAX).expect("begins");
        assert!(read(request).await.is_ok(), "alone, as much as there is");
    }

    #[test]
    fn kept_bytes_give_their_memory_back_with_the_last_of_them() {
        let memory = BodyMemory::new(10 * PIECE_BYTES);
        let mut held = memory.hold();
        assert!(held.grow(8 * PIECE_BYTES));
        let bytes = held.keep(vec![7; 3]);
        let part = bytes.slice(1..);
        drop(bytes);
        assert!(part[..] == [7, 7] && !memory.has_room(3 * PIECE_BYTES));
        drop(part);
        assert!(memory.has_room(10 * PIECE_BYTES));
    }

    #[test]
    fn what_is_announced_takes_nothing_but_has_to_have_room() {
        let admission = Admission::new(9, BodyMemory::new(10 * PIECE_BYTES));
        let announce = |bytes: usize| {
            let request = Request::builder().header("content-length", bytes).body(Body::empty());
            admission.intake(request.expect("a request"), 20 * PIECE_BYTES)
        };
        let (first, _) = announce(8 * PIECE_BYTES).expect("has room");
        let (_second, _) = announce(8 * PIECE_BYTES).expect("nothing has come of the first");
        first.set_aside(5 * PIECE_BYTES).expect("has room");
        assert!(matches!(announce(8 * PIECE_BYTES), Err(ApiError::BodiesFull)));
        assert!(matches!(announce(21 * PIECE_BYTES), Err(ApiError::BodyTooLarge { .. })));
    }
}
