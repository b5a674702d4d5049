//! Shared helpers of the whole-system tests in `tests/`.
//!
//! - [`pictures`]: small pictures of coloured shapes, the same ones for the same seed.
//! - [`shop`]: a catalogue of them, a tiny random model, and an index; all of it in a temporary folder.
//! - [`server`]: the HTTP server over it, with or without a socket.
//! - [`balancer`]: the load balancer that is shipped, in front of servers on this machine.
//! - [`binaries`]: the workspace's programs, built where they are missing.
//! - [`engine`]: Qdrant's engine, as a process that can be killed.
//! - [`proxy`]: connections that break at chosen moments.
//! - [`browser`]: a headless Chromium.
//! - [`client`]: clients that talk to it.
//! - [`form`]: requests and answers without a socket.
//! - [`metrics`]: what a server says in Prometheus' text format.
//! - [`load`]: many requests at a server on this machine, with their times.

pub mod balancer;
pub mod binaries;
pub mod browser;
pub mod client;
pub mod engine;
pub mod form;
pub mod load;
pub mod metrics;
pub mod pictures;
pub mod proxy;
pub mod server;
pub mod shop;
