//! `dfml index activate`: which model's collection a catalogue on Qdrant stands for.

use std::path::PathBuf;

use anyhow::Context as _;
use dfml_index::{OpenOptions, VectorIndex};
use dfml_models::Manifest;
use dfml_qdrant::QdrantIndex;
use dfml_serve::settings::Settings;

use super::Done;

/// Let the catalogue's name on Qdrant stand for this model's collection from now on.
///
/// Each model has a collection of its own. `dfml index import` fills that of the next model while servers go on with the one before;
/// a server uses the collection of the model that it is started with. The name is for those that have no model, such as
/// `dfml index copy --from qdrant`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  dfml --config serve.toml index activate --model next-model")]
pub(super) struct Args {
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Let the engine write a snapshot of the collection first, on its own machines.
    #[arg(long)]
    snapshot: bool,
}

pub(super) fn run(args: &Args, settings: &Settings) -> anyhow::Result<Done> {
    let manifest = Manifest::load(&args.model).with_context(|| format!("model {}", args.model.display()))?;
    let options = OpenOptions::new(manifest.embedding_dim, manifest.fingerprint());
    let index = QdrantIndex::open(&settings.index.qdrant, &options)?;
    if args.snapshot {
        println!("snapshot {}", index.snapshot()?);
    }
    index.activate()?;
    println!("{}: {} with {} items", index.place(), index.collection(), index.count()?);
    Ok(Done::Complete)
}
