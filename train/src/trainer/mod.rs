//! The training loop and what it needs: optimiser, schedule, checkpoints, evaluation, run directory.

mod checkpoint;
mod ema;
mod evaluate;
mod fit;
mod loss_scale;
mod objective;
mod optimizer;
mod pretrained;
mod rules;
mod run;
mod run_dir;
mod schedule;
mod state;
mod trade_off;

pub use ema::Ema;
pub use evaluate::{Embedded, EmbeddedTest, EvalOptions, Quality, embed_dataset, judge};
pub use fit::{FitOptions, FitReport, fit};
pub use objective::{Objective, StepLoss};
pub use optimizer::{Optimizer, ParamGroup, StepCounts};
pub use pretrained::{Resolved, build_pretrained, eval_transform, network_options, resolve, weights_file};
pub use schedule::learning_rate;
pub use state::{Best, EpochRecord};
pub use trade_off::{Judged, LoadedNetwork, judge_efforts};
