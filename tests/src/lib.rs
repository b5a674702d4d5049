//! Shared helpers of the whole-system tests in `tests/`.
//!
//! - [`pictures`]: small pictures of coloured shapes, the same ones for the same seed.
//! - [`shop`]: a catalogue of them, a tiny random model, and an index; all of it in a temporary folder.
//! - [`server`]: the HTTP server over it, with or without a socket.
//! - [`binaries`]: the workspace's programs, built where they are missing.
//! - [`browser`]: a headless Chromium.
//! - [`form`]: requests and answers without a socket.

pub mod binaries;
pub mod browser;
pub mod form;
pub mod pictures;
pub mod server;
pub mod shop;
