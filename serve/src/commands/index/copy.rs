//! `dfml index copy`: a catalogue from one backend to another.

use std::{collections::HashMap, path::PathBuf, time::Instant};

use anyhow::{Context as _, bail};
use dfml_index::{EmbeddedIndex, IndexError, Item, OpenOptions, StoreReader, VectorIndex};
use dfml_qdrant::QdrantIndex;
use dfml_serve::settings::Settings;
use sha2::{Digest, Sha256};

use super::{Done, interrupt::Interrupt, progress::Progress};

/// Items read and written at a time.
const PAGE: usize = 1024;
/// Vectors that are compared, about.
const SAMPLES: usize = 1000;

/// Copy a catalogue between a store directory and Qdrant, either way, and check the copy.
///
/// What the copy has already is left alone, so an interrupted run is resumed by running it again. The check compares the number of
/// items, a checksum of all ids, products and metadata, and the vectors of a sample. A server may be using a store that is copied
/// from; what is written to it meanwhile is copied by the next run.
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

    /// Length of the vectors and the model's fingerprint.
    fn model(&self) -> (usize, String) {
        match self {
            Self::Store(reader) => (reader.facts().dim, reader.facts().model_fingerprint.clone()),
            Self::Qdrant(index) => (index.dim(), index.model_fingerprint().to_owned()),
        }
    }
}

/// What a walk through a catalogue adds up to, whatever its order.
#[derive(Default)]
struct Tally {
    items: usize,
    sum: u128,
    samples: HashMap<String, Item>,
}

impl Tally {
    /// Adds an item; every `each`th one, by its id, is kept.
    fn add(&mut self, item: &Item, each: usize) {
        let metadata = serde_json::Value::Object(item.metadata.clone()).to_string();
        let parts = [item.id.as_str(), &item.product_id, &metadata];
        let digest = parts.iter().fold(Sha256::new(), |digest, part| {
            digest.chain_update((part.len() as u64).to_le_bytes()).chain_update(part)
        });
        let mut half = [0; 16];
        half.copy_from_slice(&digest.finalize()[..16]);
        let number = u128::from_le_bytes(half);
        self.items += 1;
        self.sum = self.sum.wrapping_add(number);
        if number % (each.max(1) as u128) == 0 {
            self.samples.insert(item.id.clone(), item.clone());
        }
    }
}

pub(super) fn run(args: &Args, settings: Settings) -> anyhow::Result<Done> {
    if args.from == args.to {
        bail!("--from and --to are the same catalogue");
    }
    let source = Source::open(&args.from, &settings)?;
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
    let interrupt = Interrupt::listen()?;
    let each = source.count()? / SAMPLES + 1;
    let Some(copied) = walk(args, &source, &*target, each, &interrupt)? else {
        eprintln!("interrupted; the copy has what was done, run the same command again to go on");
        return Ok(Done::Interrupted);
    };
    if args.no_verify {
        return Ok(Done::Complete);
    }
    let Some(found) = tally(&*target, each, &interrupt)? else { return Ok(Done::Interrupted) };
    compare(&copied, &found).with_context(|| {
        let (from, to) = (args.from.name(&settings), args.to.name(&settings));
        format!("{to} is no copy of {from}; if {from} was written to meanwhile, run the command again")
    })?;
    println!(
        "{}: {} items as in {}: ids, products and metadata (checksum {:032x}), {} vectors compared",
        args.to.name(&settings),
        found.items,
        args.from.name(&settings),
        found.sum,
        copied.samples.len()
    );
    Ok(Done::Complete)
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

/// The items that the target does not have just so.
fn lacking(target: &dyn VectorIndex, page: Vec<Item>) -> Result<Vec<Item>, IndexError> {
    let ids: Vec<String> = page.iter().map(|item| item.id.clone()).collect();
    let known: HashMap<String, Item> =
        target.get_many(&ids)?.into_iter().map(|item| (item.id.clone(), item)).collect();
    Ok(page.into_iter().filter(|item| known.get(&item.id).is_none_or(|known| !known.is_same(item))).collect())
}

/// Adds up a catalogue; `None` if interrupted.
fn tally(index: &dyn VectorIndex, each: usize, interrupt: &Interrupt) -> anyhow::Result<Option<Tally>> {
    let (mut progress, start) = (Progress::new("checking", index.count()?), Instant::now());
    let (mut found, mut after) = (Tally::default(), None::<String>);
    loop {
        if interrupt.requested() {
            return Ok(None);
        }
        let page = index.page(after.as_deref(), PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        page.iter().for_each(|item| {
            found.add(item, each);
            progress.step();
        });
    }
    progress.finish();
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    println!(
        "checking: {} items in {seconds:.1} s, {:.0} items/s",
        found.items,
        found.items as f64 / seconds
    );
    Ok(Some(found))
}

fn compare(copied: &Tally, found: &Tally) -> anyhow::Result<()> {
    if copied.items != found.items {
        bail!("{} items there, and {} here", copied.items, found.items);
    }
    if copied.sum != found.sum {
        bail!("the checksums of ids, products and metadata are {:032x} and {:032x}", copied.sum, found.sum);
    }
    for (id, item) in &copied.samples {
        if !found.samples.get(id).is_some_and(|found| found.is_same(item)) {
            bail!("the vector of {id:?} is another");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, product: &str) -> Item {
        Item { id: id.into(), product_id: product.into(), vector: vec![1.0], ..Item::default() }
    }

    fn tally_of(items: &[Item]) -> Tally {
        let mut tally = Tally::default();
        items.iter().for_each(|item| tally.add(item, 1));
        tally
    }

    #[test]
    fn a_tally_sees_everything_but_the_order() {
        let whole = tally_of(&[item("a", "p"), item("b", "q")]);
        assert!(compare(&whole, &tally_of(&[item("b", "q"), item("a", "p")])).is_ok());
        assert!(compare(&whole, &tally_of(&[item("a", "p")])).is_err());
        assert!(compare(&whole, &tally_of(&[item("a", "p"), item("b", "r")])).is_err());
        assert!(
            compare(&whole, &tally_of(&[item("ap", ""), item("b", "q")])).is_err(),
            "parts do not run together"
        );
        let other = Item { vector: vec![-1.0], ..item("b", "q") };
        assert!(compare(&whole, &tally_of(&[item("a", "p"), other])).is_err());
    }

    #[test]
    fn a_home_is_a_folder_or_the_engine() {
        let parse = |text: &str| text.parse::<Home>().expect("anything is");
        assert_eq!(parse("qdrant"), Home::Qdrant);
        assert_eq!(parse("./qdrant"), Home::Folder("./qdrant".into()));
    }
}
