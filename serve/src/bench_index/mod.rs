//! The index against other libraries: the same vectors, the same truth, one thread each, round after round.
//!
//! Every figure is processor time of the searching thread, so that other work on the machine hardly changes it; what is
//! compared is measured in turns within one run.

mod data;
mod ours;
mod peers;
mod plot;
mod report;
mod sweep;

pub use data::{Data, DataError, Truth};
pub use ours::Ours;
pub use peers::{PEERS, Peer, PeerError};
pub use plot::{PlotError, growth_plot, recall_plot};
pub use report::{Contender, ExactFigures, Growth, IndexBench, table};
pub use sweep::{Plan, SweepError, grow, run};
