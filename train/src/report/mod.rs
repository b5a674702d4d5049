//! What a run tells people and their tools: a log of figures, TensorBoard events, plots, a page of search results.

mod html;
mod log;
mod plots;
mod tensorboard;

pub use html::{Page, Search, SearchResult};
pub use log::{RunLog, StepFigures};
pub use plots::{loss_curves, router_use};
pub use tensorboard::EventFile;
