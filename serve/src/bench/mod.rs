//! How fast this machine is at the work of this program, always as a quotient of things measured in one run: round after
//! round, everything is taken once, so that a change of the machine's load hits all of it.

mod embed;
mod gemm;
mod peer;
mod pictures;
mod stopwatch;

pub use embed::{BenchError, EmbedBench, Plan, Rates, Ratios, bench_embed};
pub use gemm::Gemm;
pub use peer::{Peer, PeerError};
pub use pictures::write_pictures;
pub use stopwatch::{Rate, Spent};
