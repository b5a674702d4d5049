//! Set-up and developer commands: `cargo xtask --help`.

mod catalogue;
mod command;
mod demo;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                      train, export, index, evaluate and serve a catalogue of furniture
  cargo xtask demo --no-train           the same with the pretrained network: no libtorch, a minute faster
  cargo xtask demo --catalogue ~/shop   the same with your own images, one folder per product
  cargo xtask test                      everything that must be green before a change is merged
  cargo xtask setup --check             what is installed, and where
  eval \"$(cargo xtask env)\"             LIBTORCH and ORT_DYLIB_PATH for `cargo build -p dfml-train`

Everything that is fetched or made goes to one folder: $DFML_CACHE_DIR, or dfml in your cache folder.";

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Set-up and developer commands", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    Env(setup::EnvArgs),
    Test(test::Args),
    Demo(demo::Args),
    /// Render the demo catalogue from the furniture libraries
    Catalogue(catalogue::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Env(args) => setup::print_env(&args),
        Command::Test(args) => return test::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Catalogue(args) => catalogue::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
