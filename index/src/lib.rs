//! Vectors in, neighbours out: the catalogue of a visual product search.
//!
//! [`VectorIndex`] is the interface; [`EmbeddedIndex`] keeps the truth in an ACID file (redb) and searches in memory.
//! An upsert is acknowledged after it is durable. Scores are cosine similarities; equal scores are ordered by the time
//! of the upsert, oldest first, so that the same request always gives the same answer.
//!
//! ```
//! use dfml_index::{EmbeddedIndex, Item, OpenOptions, SearchRequest, VectorIndex};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let options = OpenOptions { create: true, ..OpenOptions::new(2, "m1") };
//! let index = EmbeddedIndex::open(folder.path(), options)?;
//! index.upsert(vec![
//!     Item { id: "1".into(), product_id: "chair".into(), vector: vec![1.0, 0.0], ..Item::default() },
//!     Item { id: "2".into(), product_id: "lamp".into(), vector: vec![0.0, 1.0], ..Item::default() },
//! ])?;
//! let hits = index.search(&SearchRequest { k: 1, ..SearchRequest::new(vec![0.8, 0.6]) })?;
//! assert_eq!(hits[0].product_id, "chair");
//! # Ok(())
//! # }
//! ```
//!
//! Beside it: [`sop`] reads list files of images, [`metrics`] judges embeddings by retrieval and clustering.

mod block;
mod embedded;
mod error;
mod filter;
mod graph;
mod info;
mod item;
mod kernels;
mod memory;
pub mod metrics;
mod request;
pub mod sop;
mod store;
pub mod synthetic;
mod tuning;
mod vector_index;

pub use embedded::{EmbeddedIndex, Nearest, OpenOptions};
pub use error::IndexError;
pub use filter::{Filter, Scalar};
pub use info::{GraphInfo, IndexInfo, RecallEstimate, SearchMode};
pub use item::{Item, Patch, ProductSummary};
pub use request::{Example, Hit, SearchRequest};
pub use store::{ItemStore, SalvageReport, StoreFacts, StoreReader, StoreWriter, VerifyReport};
pub use tuning::{GraphBuilder, Tuning};
pub use vector_index::{Lease, VectorIndex, texts_by_walking};
