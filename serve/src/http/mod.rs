//! The HTTP server: routes, limits, errors, and the web page.
//!
//! A search passes these stages, each bounded and each with a histogram: read → decode → preprocess → queue and batch →
//! inference → search → respond. [`app`] is the whole server without a socket; [`serve`] gives it one.

mod admission;
mod categories;
mod cpu_pool;
mod error;
mod headers;
mod images;
mod observe;
mod page;
mod params;
mod probes;
mod problem;
mod router;
mod search;
mod server;
mod state;
mod upload;

pub use categories::{Categories, Category};
pub use error::ApiError;
pub use problem::Problem;
pub use router::app;
pub use search::{QueryImage, SearchResponse, SearchResult, Timings};
pub use server::{ServeError, serve};
pub use state::{AppState, Backend, HttpOptions, StateError};
