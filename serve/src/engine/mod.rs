//! From image bytes to a unit vector: the ONNX Runtime library, execution providers, sessions and batching.
//!
//! [`Engine`] is the whole of it for a caller that has images; [`Batcher`] puts a bounded queue before an engine for
//! callers that come one at a time.

mod batcher;
mod crowd;
mod error;
mod gpu;
mod known_answer;
mod library;
mod pool;
mod provider;
mod ranges;
mod session;
mod sessions;

pub use batcher::{BatchObserver, BatchOptions, Batcher, Unobserved};
pub use error::EngineError;
pub use known_answer::KnownAnswers;
pub use library::{Library, resolve as resolve_library};
pub use provider::{Provider, ProviderReport};
pub use ranges::{ObserveError, RangeObserver};
pub(crate) use session::PROCESSOR_BATCH;
pub use session::{Engine, EngineOptions};
