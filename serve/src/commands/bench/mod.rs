//! `dfml bench`: how fast this machine is at the server's work.

mod embed;

use clap::Subcommand;
use dfml_serve::settings::Settings;

use super::Done;

/// Measure how fast this machine is.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Embed(embed::Args),
    Index(super::bench_index::Args),
}

pub(super) fn run(args: Args, settings: Settings) -> anyhow::Result<Done> {
    match args.what {
        What::Embed(args) => embed::run(args, settings),
        What::Index(args) => super::bench_index::run(args),
    }
}
