//! The commands of `dfml-train`.

pub(crate) mod convert;
pub(crate) mod eval;
pub(crate) mod fit;

use std::process::ExitCode;

use dfml_train::TrainError;

/// Exit code of a run that was told to stop, as shells count SIGINT.
const STOPPED: u8 = 130;

/// The exit code that an error stands for.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<TrainError>() {
        Some(TrainError::Interrupted { .. }) => ExitCode::from(STOPPED),
        _ => ExitCode::FAILURE,
    }
}
