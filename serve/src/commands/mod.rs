//! The command line: one file per subcommand, and what they share.

mod bench;
mod bench_index;
mod calibrate;
mod catalogue;
mod dedupe;
mod embed;
mod eval;
mod export;
mod health;
mod index;
mod info;
mod interrupt;
mod key;
mod options;
mod progress;
mod search;
mod serve;
mod variant;
mod verify;

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use dfml_index::IndexError;
use dfml_serve::{
    engine::EngineError,
    settings::Settings,
    traces::{self, Traces},
};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Exit codes, as `--help` lists them.
mod exit {
    pub(super) const ERROR: u8 = 1;
    pub(super) const PROVIDER: u8 = 3;
    pub(super) const UNAVAILABLE: u8 = 4;
    pub(super) const INTERRUPTED: u8 = 130;
}

const AFTER_HELP: &str = "\
Exit codes:
  0    done (items that were left out are counted in the summary; --strict makes them an error)
  1    an error, named on standard error
  2    the command line is wrong
  3    a GPU was required and could not be used
  4    the engine that holds the catalogue does not answer; what was done is kept
  130  interrupted; what was done is kept

Settings come from --config FILE, then DFML_SECTION__KEY variables, then flags; the last one wins.

Examples:
  dfml export --weights efficientnet-lite0.pth --fit-embedding Ebay_train.txt --out model
  dfml index import --model model --catalogue store --list gallery.txt --products products.jsonl
  dfml search chair.jpg --model model --catalogue store
  dfml serve --model model --catalogue store";

/// Visual product search: embed images, index a catalogue, find similar products.
#[derive(Parser)]
#[command(name = "dfml", version, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Cli {
    /// Settings file (TOML); configs/serve.toml lists every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged on standard error: error, warn, info, debug, trace, or a filter such as `dfml_serve=debug`.
    #[arg(long, global = true, value_name = "FILTER", default_value = "warn,dfml=info,dfml_serve=info")]
    log: String,
    /// How it is logged: lines for people, or a JSON object a line.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Pretty, env = "DFML_LOG_FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Pretty,
    /// A JSON object a line.
    Json,
}

#[derive(Subcommand)]
enum Command {
    Export(export::Args),
    Verify(verify::Args),
    Eval(eval::Args),
    Index(index::Args),
    Search(search::Args),
    Serve(serve::Args),
    Key(key::Args),
    Health(health::Args),
    Calibrate(calibrate::Args),
    Dedupe(dedupe::Args),
    Info(info::Args),
    Embed(embed::Args),
    Bench(bench::Args),
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// Everything that was asked for.
    Complete,
    /// Stopped by SIGINT or SIGTERM, with what was done kept.
    Interrupted,
}

/// Parses the command line, runs the subcommand and maps its error to an exit code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = match EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("error: --log: {error}");
            return ExitCode::from(2);
        }
    };
    match run(cli, filter) {
        Ok(Done::Complete) => ExitCode::SUCCESS,
        Ok(Done::Interrupted) => ExitCode::from(exit::INTERRUPTED),
        Err(error) => {
            // Standard error may be closed; there is nowhere left to say so.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            exit_code(&error)
        }
    }
}

fn run(cli: Cli, filter: EnvFilter) -> anyhow::Result<Done> {
    let settings = Settings::load(cli.config.as_deref())?;
    // Until the end of this function; then the last spans are sent.
    let traces = match cli.command {
        Command::Serve(_) => Traces::start(&settings.traces)?,
        _ => None,
    };
    start_log(filter, cli.log_format, traces.as_ref());
    match cli.command {
        Command::Export(args) => export::run(args, settings),
        Command::Verify(args) => verify::run(args, settings),
        Command::Eval(args) => eval::run(args, settings),
        Command::Index(args) => index::run(args, settings),
        Command::Search(args) => search::run(args, settings),
        Command::Serve(args) => serve::run(args, settings),
        Command::Key(args) => key::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Calibrate(args) => calibrate::run(args, settings),
        Command::Dedupe(args) => dedupe::run(args, settings),
        Command::Info(args) => info::run(args, settings),
        Command::Embed(args) => embed::run(args, settings),
        Command::Bench(args) => bench::run(args, settings),
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    let mut chain = error.chain();
    let code = chain.find_map(|cause| match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(EngineError::GpuRequired { .. }), _) => Some(exit::PROVIDER),
        (_, Some(IndexError::Unavailable { .. })) => Some(exit::UNAVAILABLE),
        _ => None,
    });
    ExitCode::from(code.unwrap_or(exit::ERROR))
}

fn start_log(filter: EnvFilter, format: LogFormat, traces: Option<&Traces>) {
    let filter = filter.and(filter_fn(|metadata| metadata.target() != traces::STAGES));
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let log = match format {
        LogFormat::Pretty => log.with_ansi(std::io::stderr().is_terminal()).boxed(),
        // The request's id and route are in the span.
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    };
    tracing_subscriber::registry().with(log.with_filter(filter)).with(traces.map(Traces::layer)).init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
