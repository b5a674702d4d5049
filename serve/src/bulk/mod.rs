//! Many image files to vectors, with every core busy, past the files that cannot be read.

mod embed;
pub mod fit_embedding;
mod images;
mod ingest;
mod products;

pub use embed::{BulkError, BulkOptions, Embedding, ItemError, ItemErrorKind, embed_files};
pub use images::{ImageEntry, ImageList, ListError};
pub use ingest::{Ingest, IngestError, IngestEvent, IngestOptions, IngestSummary, STAMP_KEY};
pub use products::{Product, Products, ProductsError};
