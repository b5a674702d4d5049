//! The serving side of dfml: from image bytes to similar products.
//!
//! - [`access`]: API keys, scopes and rates.
//! - [`engine`]: image bytes to unit vector, through ONNX Runtime, with batching.
//! - [`mod@bench`]: how fast this machine is at it, and beside what.
//! - [`bulk`]: many images to vectors with every core busy, past the ones that cannot be read.
//! - [`duplicates`]: clusters of near-identical items.
//! - [`http`]: the HTTP server and its web page.
//! - [`metrics`]: what it measures, for Prometheus.
//! - [`npy`]: NumPy's file format.
//! - [`bench_index`]: the index against other libraries.
//! - [`settings`]: built-in values, file, environment and flags, in layers.
//! - [`traces`]: what it does for whom, for OpenTelemetry.

pub mod access;
pub mod bench;
pub mod bench_index;
pub mod bulk;
pub mod duplicates;
pub mod engine;
pub mod http;
pub mod metrics;
pub mod npy;
pub mod settings;
pub mod traces;
