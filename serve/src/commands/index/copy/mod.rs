//! `dfml index copy`: a catalogue from one backend to another.

mod tally;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, bail};
use dfml_index::{EmbeddedIndex, IndexError, Item, OpenOptions, StoreReader, VectorIndex};
use dfml_qdrant::QdrantIndex;
use dfml_serve::settings::Settings;

use super::{Done, interrupt::Interrupt, progress::Progress};
use tally::{Tally, compare, tally};

/// Items read and written at a time.
const PAGE: usize = 1024;
/// Vectors that are compared, about.
const SAMPLES: usize = 1000;

/// Make a catalogue in a store directory or on Qdrant the same as another one, and check that it is.
///
/// What the copy has already is left alone, so an interrupted run is resumed by running it again. Items that only the copy has are
/// removed from it. The check compares the number of items, a checksum of all ids, products and metadata, and the vectors of a
/// sample. A server may be using a store that is copied from; what is written to it meanwhile is copied by the next run.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml --config serve.toml index copy --from store --to qdrant
  dfml --config serve.toml index copy --from qdrant --to store
  DFML_INDEX__QDRANT__URL=https://qdrant.example.com:6334 dfml index copy --from store --to qdrant")]
pub(super) struct Args {
    /// Store directory, or `qdrant` for the catalogue that the settings index.qdrant name.
    #[arg(long, value_name = "DIR|qdrant")]
    from: Home,
    /// Store directory, or `qdrant`; made if it does not exist.
    #[arg(long, value_name = "DIR|qdrant")]
    to: Home,
    /// Copy without checking; `--verify-only` does that later.
    #[arg(long, conflicts_with = "verify_only")]
    no_verify: bool,
    /// Only check.
    #[arg(long)]
    verify_only: bool,
}

/// Where a catalogue is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Home {
    Folder(PathBuf),
    Qdrant,
}

impl std::str::FromStr for Home {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "qdrant" { Self::Qdrant } else { Self::Folder(text.into()) })
    }
}

impl Home {
    fn name(&self, settings: &Settings) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Qdrant => settings.index.qdrant.place(),
        }
    }
}

/// A catalogue that is read.
enum Source {
    Store(StoreReader),
    Qdrant(QdrantIndex),
}

impl Source {
    fn open(home: &Home, settings: &Settings) -> Result<Self, IndexError> {
        Ok(match home {
            Home::Folder(path) => Self::Store(StoreReader::open(path)?),
            Home::Qdrant => Self::Qdrant(QdrantIndex::open_current(&settings.index.qdrant)?),
        })
    }

    fn page(&self, after: Option<&str>) -> Result<Vec<Item>, IndexError> {
        match self {
            Self::Store(reader) => reader.page(after, PAGE),
            Self::Qdrant(index) => index.page(after, PAGE),
        }
    }

    fn count(&self) -> Result<usize, IndexError> {
        match self {
            Self::Store(reader) => reader.count(),
            Self::Qdrant(index) => index.count(),
        }
    }

    /// Those of these ids that it has.
    fn known(&self, ids: &[String]) -> Result<HashSet<String>, IndexError> {
        match self {
            Self::Store(reader) => {
                let mut known = HashSet::new();
                for id in ids {
                    if reader.contains(id)? {
                        known.insert(id.clone());
                    }
                }
                Ok(known)
            }
            Self::Qdrant(index) => Ok(index.get_many(ids)?.into_iter().map(|item| item.id).collect()),
        }
    }

    /// Length of the vectors and the model's fingerprint.
    fn model(&self) -> (usize, String) {
        match self {
            Self::Store(reader) => (reader.facts().dim, reader.facts().model_fingerprint.clone()),
            Self::Qdrant(index) => (index.dim(), index.model_fingerprint().to_owned()),
        }
    }
}

pub(super) fn run(args: &Args, settings: Settings) -> anyhow::Result<Done> {
    if args.from == args.to {
        bail!("--from and --to are the same catalogue");
    }
    copy(args, &settings, &Interrupt::listen()?)
}

fn copy(args: &Args, settings: &Settings, interrupt: &Interrupt) -> anyhow::Result<Done> {
    let source = Source::open(&args.from, settings)?;
    let (dim, fingerprint) = source.model();
    let options = OpenOptions {
        create: !args.verify_only,
        tuning: settings.index.tuning.clone(),
        ..OpenOptions::new(dim, fingerprint)
    };
    let target: Box<dyn VectorIndex> = match &args.to {
        Home::Folder(path) => Box::new(EmbeddedIndex::open(path, options)?),
        Home::Qdrant => Box::new(QdrantIndex::open(&settings.index.qdrant, &options)?),
    };
    let each = source.count()? / SAMPLES + 1;
    let Some(copied) = fill(args, &source, &*target, each, interrupt)? else {
        eprintln!("interrupted; the copy has what was done, run the same command again to go on");
        return Ok(Done::Interrupted);
    };
    if args.no_verify {
        return Ok(Done::Complete);
    }
    let Some(found) = tally(&*target, each, interrupt)? else { return Ok(Done::Interrupted) };
    compare(&copied, &found).with_context(|| {
        let (from, to) = (args.from.name(settings), args.to.name(settings));
        format!("{to} is no copy of {from}; if {from} was written to meanwhile, run the command again")
    })?;
    println!(
        "{}: {} items as in {}: ids, products and metadata (checksum {:032x}), {} vectors compared",
        args.to.name(settings),
        found.items,
        args.from.name(settings),
        found.sum,
        copied.samples.len()
    );
    Ok(Done::Complete)
}

/// Reads the source and brings the target up to date with it, unless there is only something to check; `None` if interrupted.
fn fill(
    args: &Args,
    source: &Source,
    target: &dyn VectorIndex,
    each: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<Option<Tally>> {
    let Some(copied) = walk(args, source, target, each, interrupt)? else { return Ok(None) };
    // With as many items as were copied it has just those.
    if args.verify_only || target.count()? == copied.items {
        return Ok(Some(copied));
    }
    if copied.items == 0 {
        bail!("--from is empty and --to is not: nothing was removed from it; is this the right way round?");
    }
    Ok(remove_strays(source, target, interrupt)?.then_some(copied))
}

/// Reads the source and writes what the target lacks; `None` if interrupted.
fn walk(
    args: &Args,
    source: &Source,
    target: &dyn VectorIndex,
    each: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<Option<Tally>> {
    let what = if args.verify_only { "reading" } else { "copying" };
    let (mut progress, start) = (Progress::new(what, source.count()?), Instant::now());
    let is_new = !args.verify_only && target.count()? == 0;
    let (mut seen, mut stored, mut after) = (Tally::default(), 0, None::<String>);
    loop {
        if interrupt.requested() {
            return Ok(None);
        }
        let page = source.page(after.as_deref())?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        page.iter().for_each(|item| {
            seen.add(item, each);
            progress.step();
        });
        if args.verify_only {
            continue;
        }
        let lacking = if is_new { page } else { lacking(target, page)? };
        stored += lacking.len();
        if !lacking.is_empty() {
            target.upsert(lacking)?;
        }
    }
    target.flush()?;
    progress.finish();
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    println!(
        "{what}: {} items in {seconds:.1} s, {:.0} items/s; {stored} stored, {} there already",
        seen.items,
        seen.items as f64 / seconds,
        seen.items - stored
    );
    Ok(Some(seen))
}

/// Removes the items that only the target has: those that were deleted from the source after an earlier copy. False if interrupted.
fn remove_strays(source: &Source, target: &dyn VectorIndex, interrupt: &Interrupt) -> anyhow::Result<bool> {
    let (mut removed, mut after) = (0, None::<String>);
    loop {
        if interrupt.requested() {
            return Ok(false);
        }
        let page = target.page(after.as_deref(), PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        let mut ids: Vec<String> = page.into_iter().map(|item| item.id).collect();
        let known = source.known(&ids)?;
        ids.retain(|id| !known.contains(id));
        if !ids.is_empty() {
            removed += target.delete(&ids)?;
        }
    }
    target.flush()?;
    println!("copying: {removed} items removed that the source does not have");
    Ok(true)
}

/// The items that the target does not have just so.
fn lacking(target: &dyn VectorIndex, page: Vec<Item>) -> Result<Vec<Item>, IndexError> {
    let ids: Vec<String> = page.iter().map(|item| item.id.clone()).collect();
    let known: HashMap<String, Item> =
        target.get_many(&ids)?.into_iter().map(|item| (item.id.clone(), item)).collect();
    Ok(page.into_iter().filter(|item| known.get(&item.id).is_none_or(|known| !known.is_same(item))).collect())
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, path::Path};

    use super::*;

    fn item(id: &str, product: &str) -> Item {
        Item { id: id.into(), product_id: product.into(), vector: vec![1.0], ..Item::default() }
    }

    #[test]
    fn a_copy_follows_what_was_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let options = OpenOptions { create: true, ..OpenOptions::new(1, "model") };
        let count = 2 * PAGE + 10;
        let items = |range: Range<usize>| -> Vec<Item> {
            range.map(|number| item(&format!("item {number}"), "p")).collect()
        };
        let source = EmbeddedIndex::open(&from, options.clone()).expect("opens");
        source.upsert(items(0..count)).expect("writes");
        // With the server beside it that uses the store.
        let args = Args {
            from: Home::Folder(from.clone()),
            to: Home::Folder(to.clone()),
            no_verify: false,
            verify_only: false,
        };
        let copied = || copy(&args, &Settings::default(), &Interrupt::default());
        let ids = |folder: &Path| -> Vec<String> {
            let reader = StoreReader::open(folder).expect("opens");
            reader.page(None, usize::MAX).expect("reads").into_iter().map(|item| item.id).collect()
        };
        assert_eq!(copied().expect("copies"), Done::Complete);
        assert_eq!(ids(&to).len(), count);
        // As many are new as are gone, and then more are gone.
        let gone =
            |range: Range<usize>| -> Vec<String> { items(range).into_iter().map(|item| item.id).collect() };
        source.upsert(items(count..count + 2)).expect("writes");
        source.delete(&gone(5..7)).expect("deletes");
        assert_eq!(copied().expect("follows"), Done::Complete);
        assert_eq!(ids(&to), ids(&from));
        source.delete(&gone(100..PAGE + 300)).expect("deletes");
        assert_eq!(copied().expect("follows"), Done::Complete);
        assert_eq!(ids(&to), ids(&from));
        // An empty source is more likely a mistake than a wish.
        source.delete(&ids(&from)).expect("deletes");
        let told = copied().expect_err("refused").to_string();
        assert!(told.contains("nothing was removed"), "{told}");
        assert!(!ids(&to).is_empty());
    }

    #[test]
    fn a_home_is_a_folder_or_the_engine() {
        let parse = |text: &str| text.parse::<Home>().expect("anything is");
        assert_eq!(parse("qdrant"), Home::Qdrant);
        assert_eq!(parse("./qdrant"), Home::Folder("./qdrant".into()));
    }
}
