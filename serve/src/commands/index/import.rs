//! `dfml index import`: images into a store.

use std::{ops::ControlFlow, path::PathBuf};

use anyhow::bail;
use dfml_serve::{
    bulk::{ImageList, Ingest, IngestEvent, IngestOptions, IngestSummary, Products},
    settings::Settings,
};

use super::{Done, catalogue::CatalogueArgs, interrupt::Interrupt, options::EngineArgs, progress::Progress};

/// Embed the images of a list or folder into a store.
///
/// A catalogue that is not there is made. Images that it already has are left alone, so an interrupted run is resumed by running it again. An image that
/// cannot be read is reported and left out.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml index import --model model --catalogue store --list gallery.txt --products products.jsonl
  dfml index import --model model --catalogue store --list Ebay_test.txt --root /data/Stanford_Online_Products --strict
  dfml index import --model model --catalogue store --list items.csv     # columns path, product_id, …
  dfml index import --model model --catalogue store --folder photos      # a folder for each product
  DFML_INDEX__BACKEND=qdrant dfml index import --model model --list gallery.txt")]
pub(super) struct Args {
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    catalogue: CatalogueArgs,
    /// List of images: .jsonl or .csv with path, product_id, perhaps id, and metadata; or columns image_id class_id
    /// super_class_id path (Stanford Online Products), the class being the product.
    #[arg(long, value_name = "FILE", required_unless_present = "folder")]
    list: Option<PathBuf>,
    /// Instead of a list: a folder with a folder for each product; a file in it is a product of its own.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["list", "root"])]
    folder: Option<PathBuf>,
    /// Folder that the list's paths start from; the list's own folder if not given.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// What is known about the products: one JSON object a line with id, name, category …
    #[arg(long, value_name = "FILE")]
    products: Option<PathBuf>,
    /// Exit with code 1 if any image was left out.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    let (source, list) = match (&args.list, &args.folder) {
        (Some(path), _) => (path, ImageList::read(path, args.root.as_deref())?),
        (None, Some(folder)) => (folder, ImageList::folder(folder)?),
        (None, None) => bail!("name a --list or a --folder"),
    };
    let products = match &args.products {
        Some(path) => Products::read(path)?,
        None => Products::default(),
    };
    let (engine, bulk) = args.engine.load_bulk(&args.model, &mut settings)?;
    let store = args.catalogue.open_to_fill(&settings, engine.manifest())?;
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new("indexing", list.entries.len());
    let ingest = Ingest { engine: &engine, store: &*store, list: &list, products: &products };
    let summary = ingest.run(&IngestOptions { bulk, ..IngestOptions::default() }, |event| {
        if let IngestEvent::Failed { entry, error } = event {
            progress.line(&format!("warning: {}:{}: {error}", source.display(), entry.line));
        }
        progress.step();
        if interrupt.requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let took = progress.finish();
    let stored = store.count()?;
    drop(store);
    report(&args.catalogue.name(&settings), &summary, took, stored);
    if interrupt.requested() {
        eprintln!("interrupted; the store has what was done, run the same command again to go on");
        return Ok(Done::Interrupted);
    }
    args.catalogue.settle(&settings, engine.manifest(), stored)?;
    if args.strict && summary.failed > 0 {
        bail!("{} of {} images were left out", summary.failed, summary.listed);
    }
    Ok(Done::Complete)
}

fn report(catalogue: &str, summary: &IngestSummary, took: std::time::Duration, stored: usize) {
    println!(
        "{catalogue}: {stored} items; {} embedded, {} updated, {} unchanged, {} left out; {:.1} s, {:.0} images/s",
        summary.embedded,
        summary.updated,
        summary.unchanged,
        summary.failed,
        took.as_secs_f64(),
        summary.embedded as f64 / took.as_secs_f64().max(1e-9)
    );
}
