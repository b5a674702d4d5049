//! Many image files to vectors, with every core busy, past the files that cannot be read.

mod embed;
mod products;

pub use embed::{BulkError, BulkOptions, ItemError, ItemErrorKind, embed_files};
pub use products::{Product, Products, ProductsError};
