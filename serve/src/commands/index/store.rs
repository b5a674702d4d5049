//! `dfml index export|stats|verify|compact|backup|restore`: looking after a store, without its model.

use std::{
    io::{BufWriter, Write},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use dfml_index::{EmbeddedIndex, IndexError, OpenOptions, StoreReader, VectorIndex};
use serde_json::json;

use super::{
    Done,
    progress::Progress,
    vectors::{EXPORT, Header},
};

/// Items read at a time.
const PAGE: usize = 1024;

/// Write every item as a line of JSON. A server may be using the store meanwhile.
///
/// The first line says which model made the vectors; `dfml index vectors` reads the file again.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  dfml index export --catalogue store --out items.jsonl")]
pub(super) struct ExportArgs {
    /// Store directory.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leave the vectors out.
    #[arg(long)]
    no_vectors: bool,
}

/// Say what is in a store, and how it would be searched.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  dfml index stats --catalogue store --json")]
pub(super) struct StatsArgs {
    /// Store directory.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Read every item and check it against its checksum. Exits with code 1 if anything is wrong.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  dfml index verify --catalogue store")]
pub(super) struct VerifyArgs {
    /// Store directory.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
}

/// Give unused room on disk back. No server may be using the store.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  dfml index compact --catalogue store")]
pub(super) struct CompactArgs {
    /// Store directory.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
}

/// Copy a store into a new directory, checked item by item. A server may be using the store meanwhile.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  dfml index backup --catalogue store --to backups/monday")]
pub(super) struct BackupArgs {
    /// Store directory.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
    /// New directory.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Make a store out of a backup, or out of what can still be read of a damaged store.
///
/// Every item is checked; of a damaged store those that prove whole are recovered, and the rest is counted.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml index restore --from backups/monday --catalogue store
  dfml index restore --from damaged-store --catalogue store --salvage")]
pub(super) struct RestoreArgs {
    /// Directory of the backup or of the damaged store. Nothing is written there.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// New store directory.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
    /// Take what is whole and leave out the rest, instead of refusing a damaged store.
    #[arg(long)]
    salvage: bool,
}

pub(super) fn export(args: ExportArgs) -> anyhow::Result<Done> {
    let reader = StoreReader::open(&args.catalogue)?;
    match &args.out {
        Some(path) => {
            let file = fs_err::File::create(path)?;
            let items = write_items(&reader, &args, BufWriter::new(file))
                .with_context(|| path.display().to_string())?;
            println!("{}: {items} items", path.display());
        }
        None => {
            write_items(&reader, &args, BufWriter::new(std::io::stdout().lock()))?;
        }
    }
    Ok(Done::Complete)
}

fn write_items(reader: &StoreReader, args: &ExportArgs, mut out: impl Write) -> anyhow::Result<usize> {
    let facts = reader.facts();
    let header =
        Header { dfml_export: EXPORT, dim: facts.dim, model_fingerprint: facts.model_fingerprint.clone() };
    writeln!(out, "{}", serde_json::to_string(&header)?)?;
    let mut progress = Progress::new("exporting", reader.count()?);
    let (mut written, mut after): (usize, Option<String>) = (0, None);
    loop {
        let page = reader.page(after.as_deref(), PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        for mut item in page {
            if args.no_vectors {
                item.vector.clear();
            }
            serde_json::to_writer(&mut out, &item)?;
            out.write_all(b"\n")?;
            written += 1;
            progress.step();
        }
    }
    out.flush()?;
    progress.finish();
    Ok(written)
}

pub(super) fn stats(args: &StatsArgs) -> anyhow::Result<Done> {
    let reader = StoreReader::open(&args.catalogue)?;
    let (facts, items) = (reader.facts(), reader.count()?);
    let report = json!({
        "items": items,
        "dim": facts.dim,
        "model_fingerprint": facts.model_fingerprint,
        "format": facts.format,
        "disk_bytes": reader.disk_bytes(),
        "snapshot": args.catalogue.join("graph.snapshot").exists(),
    });
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("items        {items}");
        println!("dimensions   {}", facts.dim);
        println!("model        {}", facts.model_fingerprint);
        println!("format       {}", facts.format);
        println!("on disk      {:.1} MB", reader.disk_bytes() as f64 / 1e6);
        println!("search graph {}", if report["snapshot"] == true { "saved" } else { "none saved" });
    }
    Ok(Done::Complete)
}

pub(super) fn verify(args: &VerifyArgs) -> anyhow::Result<Done> {
    let report = StoreReader::open(&args.catalogue)?.verify()?;
    for problem in &report.named {
        println!("{problem}");
    }
    if report.problems > 0 {
        bail!(
            "{}: {} problems in {} items; `dfml index restore --salvage` makes a store of what is whole",
            args.catalogue.display(),
            report.problems,
            report.rows
        );
    }
    println!("{}: {} items, all whole", args.catalogue.display(), report.rows);
    Ok(Done::Complete)
}

pub(super) fn compact(args: &CompactArgs) -> anyhow::Result<Done> {
    let (before, after) = EmbeddedIndex::shrink(&args.catalogue)?;
    println!(
        "{}: {:.1} MB before, {:.1} MB now",
        args.catalogue.display(),
        before as f64 / 1e6,
        after as f64 / 1e6
    );
    Ok(Done::Complete)
}

pub(super) fn backup(args: &BackupArgs) -> anyhow::Result<Done> {
    let items = StoreReader::open(&args.catalogue)?.backup(&args.to)?;
    println!("{}: {items} items", args.to.display());
    Ok(Done::Complete)
}

pub(super) fn restore(args: &RestoreArgs) -> anyhow::Result<Done> {
    if args.salvage {
        let report = EmbeddedIndex::salvage(&args.from, &args.catalogue)?;
        let of = report.expected.map_or_else(|| "an unknown number".into(), |count| count.to_string());
        println!(
            "{}: {} items recovered of {of}; broken rows: {}",
            args.catalogue.display(),
            report.recovered,
            report.broken
        );
        return Ok(Done::Complete);
    }
    let copy = || {
        let reader = StoreReader::open(&args.from)?;
        let items = reader.backup(&args.catalogue)?;
        Ok((items, reader.facts().clone()))
    };
    let (items, facts) = copy().map_err(|error: IndexError| match error {
        damage @ IndexError::Damaged { .. } => anyhow::Error::new(damage)
            .context(format!("{}: with --salvage what is whole is taken", args.from.display())),
        other => other.into(),
    })?;
    // Opened once, so that the first start is not the one that finds out.
    EmbeddedIndex::open(&args.catalogue, OpenOptions::from(facts))?.flush()?;
    println!("{}: {items} items", args.catalogue.display());
    Ok(Done::Complete)
}
