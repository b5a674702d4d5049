//! Many image files to vectors, with every core busy, past the files that cannot be read.

mod embed;
pub mod fit_embedding;
mod ingest;
mod products;

pub use embed::{BulkError, BulkOptions, Embedding, ItemError, ItemErrorKind, embed_files};
pub use ingest::{STAMP_KEY, Ingest, IngestError, IngestEvent, IngestOptions, IngestSummary};
pub use products::{Product, Products, ProductsError};
