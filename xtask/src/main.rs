//! Set-up and developer commands: `cargo xtask --help`.
fn main() {}
