//! Vectors in, neighbours out: the catalogue of a visual product search.
//!
//! [`VectorIndex`] is the interface; EmbeddedIndex keeps the truth in an ACID file (redb) and searches in memory.
//! An upsert is acknowledged after it is durable. Scores are cosine similarities; equal scores are ordered by the time
//! of the upsert, oldest first, so that the same request always gives the same answer.
//!
//!
//! Beside it: [`sop`] reads list files of images, [`metrics`] judges embeddings by retrieval and clustering.

mod error;
mod filter;
mod item;
pub mod metrics;
pub mod sop;
mod vector_index;

pub use error::IndexError;
pub use filter::{Filter, Scalar};
pub use item::{Hit, Item, SearchRequest};
pub use vector_index::{IndexInfo, SearchMode, VectorIndex};
