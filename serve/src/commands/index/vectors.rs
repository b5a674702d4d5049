//! `dfml index vectors`: ready vectors into a store.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use dfml_index::{EmbeddedIndex, Item, OpenOptions, StoreReader, VectorIndex};
use dfml_models::Manifest;
use dfml_serve::npy;
use serde::{Deserialize, Serialize};

use super::{Done, interrupt::Interrupt, progress::Progress};

/// Items written at a time.
const BATCH: usize = 1024;

/// Put ready vectors into a store.
///
/// Items that the store already has just so are left alone, so an interrupted run is resumed by running it again. A store that
/// does not exist is made, for the model of --model or of the export.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml index vectors --catalogue copy --items export.jsonl
  dfml index vectors --catalogue store --items items.jsonl --vectors vectors.npy --model model")]
pub(super) struct Args {
    /// Store directory; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
    /// One JSON object a line with id, product_id, metadata and vector: what `dfml index export` writes.
    #[arg(long, value_name = "FILE")]
    items: PathBuf,
    /// The vectors, if they are not in the items: a NumPy array f32 [items, dim], in the order of the items.
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// The model that made the vectors; needed for a new store unless the items come from an export.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// The first line of an export: whose vectors they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Version of the export's format.
    pub(super) dfml_export: u32,
    pub(super) dim: usize,
    pub(super) model_fingerprint: String,
}

/// Format of exports.
pub(super) const EXPORT: u32 = 1;

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Header(Header),
    Item(LineItem),
}

/// An item whose vector may be elsewhere.
#[derive(Deserialize)]
struct LineItem {
    id: String,
    product_id: String,
    #[serde(default)]
    vector: Vec<f32>,
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Done> {
    let rows = args.vectors.as_deref().map(npy::read).transpose()?;
    let file = fs_err::File::open(&args.items)?;
    let lines = BufReader::new(file).lines().enumerate();
    let mut items = Vec::new();
    let mut header = None;
    for (index, text) in lines {
        let text = text.with_context(|| args.items.display().to_string())?;
        let place = || format!("{}:{}", args.items.display(), index + 1);
        if text.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(&text).with_context(|| format!("{}: not an item", place()))? {
            Line::Header(found) if header.is_none() && items.is_empty() => {
                if found.dfml_export != EXPORT {
                    bail!("{}: export format {}; this version reads {EXPORT}", place(), found.dfml_export);
                }
                header = Some(found);
            }
            Line::Header(_) => bail!("{}: the header must be the first line", place()),
            Line::Item(item) => {
                let vector = match &rows {
                    Some(array) => array
                        .values
                        .get(items.len() * array.columns..(items.len() + 1) * array.columns)
                        .with_context(|| format!("{}: there is no row {} of vectors", place(), items.len()))?
                        .to_vec(),
                    None => item.vector,
                };
                let LineItem { id, product_id, metadata, .. } = item;
                items.push(Item { id, product_id, vector, metadata });
            }
        }
    }
    if let Some(array) = &rows
        && array.values.len() / array.columns.max(1) != items.len()
    {
        let vectors = array.values.len() / array.columns.max(1);
        bail!("{} items, but {vectors} vectors", items.len());
    }
    let options = options(&args, header, items.first())?;
    let index = EmbeddedIndex::open(&args.catalogue, options)
        .with_context(|| format!("store {}", args.catalogue.display()))?;
    store(&index, items, &args.catalogue)
}

/// For which model the store is: the named one, the export's, or the one that it is for already.
fn options(args: &Args, header: Option<Header>, first: Option<&Item>) -> anyhow::Result<OpenOptions> {
    let (dim, fingerprint) = if let Some(model) = &args.model {
        let manifest = Manifest::load(model)?;
        (manifest.embedding_dim, manifest.fingerprint())
    } else if let Some(header) = header {
        (header.dim, header.model_fingerprint)
    } else if args.catalogue.exists() {
        let facts = StoreReader::open(&args.catalogue)?.facts().clone();
        (facts.dim, facts.model_fingerprint)
    } else {
        bail!("name the --model that made these vectors: the store is new, and the items do not say");
    };
    if let Some(item) = first
        && item.vector.len() != dim
    {
        bail!("item {:?} has a vector of {} values; the model makes {dim}", item.id, item.vector.len());
    }
    Ok(OpenOptions { create: true, ..OpenOptions::new(dim, fingerprint) })
}

fn store(index: &EmbeddedIndex, items: Vec<Item>, catalogue: &Path) -> anyhow::Result<Done> {
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new("storing", items.len());
    let (mut stored, mut unchanged, mut batch) = (0, 0, Vec::new());
    let mut write = |batch: &mut Vec<Item>| {
        stored += batch.len();
        index.upsert(std::mem::take(batch))
    };
    for item in items {
        if interrupt.requested() {
            break;
        }
        if index.get(&item.id)?.as_ref() == Some(&item) {
            unchanged += 1;
        } else {
            batch.push(item);
        }
        if batch.len() >= BATCH {
            write(&mut batch)?;
        }
        progress.step();
    }
    write(&mut batch)?;
    progress.finish();
    println!("{}: {} items; {stored} stored, {unchanged} unchanged", catalogue.display(), index.count());
    if interrupt.requested() {
        eprintln!("interrupted; the store has what was done, run the same command again to go on");
        return Ok(Done::Interrupted);
    }
    Ok(Done::Complete)
}
