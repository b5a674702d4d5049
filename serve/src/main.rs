//! The binary `dfml`: see `dfml --help`.

use std::process::ExitCode;

mod commands;

fn main() -> ExitCode {
    commands::main()
}
