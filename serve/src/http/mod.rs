//! The HTTP server: routes, limits, errors, and the web page.
//!
//! A search passes these stages, each bounded and each with a histogram: read → decode → preprocess → queue and batch →
//! inference → search → respond. [`app`] is the whole server without a socket; [`serve`] gives it one.

mod admission;
mod backend;
mod catalogue;
mod categories;
mod connections;
mod cpu_pool;
mod docs;
mod duplicates;
mod durable;
mod embeddings;
mod error;
mod extract;
mod fetch;
mod guard;
mod headers;
mod images;
mod jobs;
mod json;
mod models;
mod observe;
mod openapi;
mod options;
mod page;
mod picture;
mod probes;
mod problem;
mod router;
mod search;
mod server;
mod state;
mod stats;

pub use backend::Backend;
pub use categories::{Categories, Category};
pub use error::ApiError;
pub use fetch::{FetchOptions, Network};
pub use models::{Active, ModelHost};
pub use options::HttpOptions;
pub use problem::Problem;
pub use router::{app, metrics_app};
pub use search::{
    BatchBody, CropBox, Example, GroupBy, QueryImage, SearchBody, SearchResponse, SearchResult, Timings,
};
pub use server::{ServeError, Tls, serve, serve_metrics};
pub use state::{AppState, StateError};
