//! `dfml index`: a catalogue's store, from import to backup.

mod activate;
mod copy;
mod import;
mod store;
mod vectors;

use clap::Subcommand;
use dfml_serve::settings::Settings;

use super::{Done, catalogue, interrupt, options, progress};

/// Fill a catalogue's store, and look after it.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Import(import::Args),
    Vectors(vectors::Args),
    Export(store::ExportArgs),
    Stats(store::StatsArgs),
    Verify(store::VerifyArgs),
    Compact(store::CompactArgs),
    Backup(store::BackupArgs),
    Restore(store::RestoreArgs),
    Copy(copy::Args),
    Activate(activate::Args),
}

pub(super) fn run(args: Args, settings: Settings) -> anyhow::Result<Done> {
    match args.what {
        What::Import(args) => import::run(args, settings),
        What::Vectors(args) => vectors::run(args),
        What::Export(args) => store::export(args),
        What::Stats(args) => store::stats(&args),
        What::Verify(args) => store::verify(&args),
        What::Compact(args) => store::compact(&args),
        What::Backup(args) => store::backup(&args),
        What::Restore(args) => store::restore(&args),
        What::Copy(args) => copy::run(&args, settings),
        What::Activate(args) => activate::run(&args, &settings),
    }
}
