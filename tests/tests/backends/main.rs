//! Every backend of an index: the same inputs, the same answers, the same errors.
//!
//! The embedded one, the distributed one on the test server, and the distributed one on a real engine where `QDRANT_URL` names
//! it, e.g. `QDRANT_URL=http://127.0.0.1:6334 cargo test -p dfml-tests --test backends`.
//!
//! - `contents`: what is written and deleted, read back.
//! - `patches`: changes to metadata: merged, by many writers, within their limit.
//! - `searching`: searches against a slow comparison with everything.
//! - `opening`: models, dimensions, catalogues that are not there, keys.
//! - `faults`: connections cut at every moment, writes applied by half, an engine that dies.
//! - `leases`: what only one process may do at a time.

mod contents;
mod faults;
mod leases;
mod opening;
mod patches;
mod place;
mod searching;
mod truth;
