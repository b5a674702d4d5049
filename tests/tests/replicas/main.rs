//! Several `dfml serve` on one engine: the programs, as an operator runs them.
//!
//! - `cluster`: two servers behind nginx; one is killed under load, the engine is killed and comes back.
//! - `copy`: `dfml index copy` either way, broken off and resumed.

mod cluster;
mod copy;
mod program;
