//! `dfml index vectors`: ready vectors into a store.

mod lines;
mod parquet;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use dfml_index::{Item, ItemStore, OpenOptions, StoreReader, StoreWriter};
use dfml_models::Manifest;
use dfml_serve::npy;

pub(super) use lines::{EXPORT, Header};

use super::{Done, catalogue, interrupt::Interrupt, progress::Progress};

/// Items written at a time.
const BATCH: usize = 1024;

/// Put ready vectors into a store.
///
/// No two items may have the same id. Items that the store already has just so are left alone, so an interrupted run is resumed by running it again. A store that
/// does not exist is made, for the model of --model or of the export.
///
/// The columns of a Parquet file: id or path (text); embedding or vector (list of numbers); product_id (text; the id if there is
/// no such column); metadata (text, a JSON object); error (text: this row has no vector and is left out). Any other column of
/// texts, numbers or truth values goes into the metadata.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml index vectors --catalogue copy --items export.jsonl
  dfml index vectors --catalogue store --items items.jsonl --vectors vectors.npy --model model
  dfml embed --list photos.txt --model model --format parquet --out vectors.parquet
  dfml index vectors --catalogue store --items vectors.parquet --model model
  dfml index vectors --catalogue store --items items.jsonl --vectors vectors.parquet --model model")]
pub(super) struct Args {
    /// Store directory; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
    /// One JSON object a line with id, product_id, metadata and vector, which is what `dfml index export` writes; or a Parquet
    /// file.
    #[arg(long, value_name = "FILE")]
    items: PathBuf,
    /// The vectors, if they are not in the items, in the order of the items: a NumPy array f32 [items, dim], or the column
    /// embedding of a Parquet file.
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// The model that made the vectors; needed for a new store unless the items come from an export. An export of another model is
    /// refused.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Exit with code 1 if any item was left out.
    #[arg(long)]
    strict: bool,
}

/// A vector, or why there is none.
type Vector = Result<Vec<f32>, String>;

/// An item whose vector may be missing, and where it was read.
struct Entry {
    item: Item,
    missing: Option<String>,
    place: String,
}

/// What was read.
#[derive(Default)]
struct Entries {
    header: Option<Header>,
    list: Vec<Entry>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Done> {
    let entries = if parquet::is_parquet(&args.items)? {
        if args.vectors.is_some() {
            bail!("{} has its own vectors; leave --vectors out", args.items.display());
        }
        parquet::entries(&args.items)?
    } else {
        let vectors = args.vectors.as_deref().map(vectors).transpose()?;
        lines::entries(&args.items, vectors)?
    };
    refuse_duplicates(&entries.list)?;
    let options = options(&args, &entries)?;
    let store = StoreWriter::open(&args.catalogue, &options)?;
    let done = fill(&args, &store, entries.list)?;
    let items = store.count()?;
    drop(store);
    if done == Done::Complete {
        catalogue::settle(&args.catalogue, options, items)?;
    }
    Ok(done)
}

/// The vectors of a file, row by row.
fn vectors(path: &Path) -> anyhow::Result<Vec<Vector>> {
    if parquet::is_parquet(path)? {
        return parquet::vectors(path);
    }
    let array = npy::read(path)?;
    Ok(array.values.chunks_exact(array.columns.max(1)).map(|row| Ok(row.to_vec())).collect())
}

/// For which model the store is: the named one, the export's, or the one that it is for already.
fn options(args: &Args, entries: &Entries) -> anyhow::Result<OpenOptions> {
    let (dim, fingerprint) = if let Some(model) = &args.model {
        let manifest = Manifest::load(model)?;
        // With --vectors it is not the export's vectors that are stored.
        let header = entries.header.as_ref().filter(|_| args.vectors.is_none());
        refuse_other_model(header, &manifest.fingerprint())
            .with_context(|| args.items.display().to_string())?;
        (manifest.embedding_dim, manifest.fingerprint())
    } else if let Some(header) = &entries.header {
        (header.dim, header.model_fingerprint.clone())
    } else if args.catalogue.exists() {
        let facts = StoreReader::open(&args.catalogue)?.facts().clone();
        (facts.dim, facts.model_fingerprint)
    } else {
        bail!("name the --model that made these vectors: the store is new, and the items do not say");
    };
    // Before the store is made: nothing is begun with vectors that cannot be taken.
    for entry in entries.list.iter().filter(|entry| entry.missing.is_none()) {
        check(&entry.item.vector, dim).with_context(|| entry.place.clone())?;
    }
    Ok(OpenOptions { create: true, ..OpenOptions::new(dim, fingerprint) })
}

/// Vectors of one model must not be stored as another's: they would be compared, and mean nothing to each other.
fn refuse_other_model(header: Option<&Header>, fingerprint: &str) -> anyhow::Result<()> {
    match header.map(|header| &header.model_fingerprint) {
        Some(made_by) if made_by != fingerprint => {
            bail!("its vectors are those of model {made_by}, and --model is {fingerprint}")
        }
        _ => Ok(()),
    }
}

/// Of two items with one id each would be found changed by the other, and be stored again, every time.
fn refuse_duplicates(entries: &[Entry]) -> anyhow::Result<()> {
    let mut places = HashMap::new();
    for Entry { item, place, .. } in entries {
        if let Some(first) = places.insert(&item.id, place) {
            bail!("{place}: item {:?} is that of {first} again", item.id);
        }
    }
    Ok(())
}

fn check(vector: &[f32], dim: usize) -> anyhow::Result<()> {
    if vector.len() != dim {
        bail!("the vector has {} values; the model makes {dim}", vector.len());
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if !length.is_finite() || (length - 1.0).abs() > 1e-3 {
        bail!("the vector has length {length}, not 1");
    }
    Ok(())
}

fn fill(args: &Args, store: &StoreWriter, entries: Vec<Entry>) -> anyhow::Result<Done> {
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new("storing", entries.len());
    let (mut stored, mut unchanged, mut left_out, mut batch) = (0, 0, 0, Vec::new());
    let mut write = |batch: &mut Vec<Item>| {
        stored += batch.len();
        store.upsert(std::mem::take(batch))
    };
    for Entry { item, missing, place } in entries {
        if interrupt.requested() {
            break;
        }
        if let Some(reason) = missing {
            progress.line(&format!("warning: {place}: {reason}"));
            left_out += 1;
        } else if store.get(&item.id)?.is_some_and(|stored| stored.is_same(&item)) {
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
    println!(
        "{}: {} items; {stored} stored, {unchanged} unchanged, {left_out} left out",
        args.catalogue.display(),
        store.count()?
    );
    if interrupt.requested() {
        eprintln!("interrupted; the store has what was done, run the same command again to go on");
        return Ok(Done::Interrupted);
    }
    if args.strict && left_out > 0 {
        bail!("{left_out} items were left out");
    }
    Ok(Done::Complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_of_another_model_is_refused() {
        let header = Header { dfml_export: EXPORT, dim: 2, model_fingerprint: "one".into() };
        assert!(refuse_other_model(Some(&header), "one").is_ok());
        assert!(refuse_other_model(None, "another").is_ok(), "who does not say is believed");
        let told = refuse_other_model(Some(&header), "another").expect_err("refused").to_string();
        assert!(told.contains("model one") && told.contains("--model is another"), "{told}");
    }

    #[test]
    fn an_id_that_comes_twice_is_refused_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("items.jsonl");
        let line = |id: &str| format!("{{\"id\":\"{id}\",\"product_id\":\"p\",\"vector\":[1.0]}}\n");
        let read = |ids: &[&str]| {
            fs_err::write(&file, ids.iter().map(|id| line(id)).collect::<String>()).expect("writes");
            lines::entries(&file, None).expect("reads").list
        };
        assert!(refuse_duplicates(&read(&["a", "b"])).is_ok());
        let told = refuse_duplicates(&read(&["a", "b", "a"])).expect_err("refused").to_string();
        assert!(told.contains("items.jsonl:3: item \"a\"") && told.contains("items.jsonl:1 again"), "{told}");
    }
}
