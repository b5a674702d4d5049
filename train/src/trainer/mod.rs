//! The training loop and what it needs: optimiser, schedule, evaluation, run directory.

mod adamw;
mod embedding_init;
mod evaluate;
mod fit;
mod objective;
mod run_dir;
mod schedule;

pub use adamw::{AdamW, AdamWOptions, ParamGroup};
pub use embedding_init::{principal_embedding, seeded_subset};
pub use evaluate::{embed_dataset, evaluate, summary};
pub use fit::{EpochRecord, FitOptions, FitReport, fit};
pub use objective::{Objective, StepLoss};
pub use schedule::learning_rate;
