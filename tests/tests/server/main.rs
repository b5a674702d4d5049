//! The HTTP server beyond plain searches: one binary, so that it is linked once.
//!
//! - `api`: all forms of searching, embeddings.
//! - `catalogue`: items and products, in bulk.
//! - `images`: the Dockerfiles.
//! - `jobs`: imports, duplicates, what a restart leaves.
//! - `metrics`: what moves with a search.
//! - `models`: exchanging the model while searches and changes go on.
//! - `access`: keys, scopes, rates, host names, TLS, other origins.
//! - `attack`: slow, endless, huge and broken requests; a model that is stuck.
//! - `openapi`: the description of the API is complete and the one that is committed.
//! - `balancer`: nginx as it is shipped, in front of servers that die.
//! - `deployment`: the compose files and the Kubernetes manifests.
//! - `prometheus`: Debian's own Prometheus and promtool.
//! - `traces`: what an OpenTelemetry collector receives.
//! - `program`: the program `dfml` itself: killed while it writes, bound where it may not be, without its GPU.

mod access;
mod api;
mod attack;
mod balancer;
mod catalogue;
mod deployment;
mod images;
mod jobs;
mod metrics;
mod models;
mod openapi;
mod program;
mod prometheus;
mod traces;
