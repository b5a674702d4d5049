//! `dfml dedupe`: clusters of near-identical items of a store.

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use dfml_index::{EmbeddedIndex, OpenOptions};
use dfml_models::Manifest;
use dfml_serve::{duplicates, settings::Settings};

use super::{Done, interrupt::Interrupt, progress::Progress};

/// Find clusters of near-identical items.
///
/// Writes one JSON object a line to standard output or --out, the largest cluster first, and with --html a page to look at. Items that
/// are near-identical only by way of others are in one cluster.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml dedupe --model model --catalogue store --min-probability 0.95 --out duplicates.jsonl --html duplicates.html --images catalogue
  dfml dedupe --model model --catalogue store --threshold 0.97 --across-products")]
pub(super) struct Args {
    /// Model directory: says which vectors these are, and what their similarities mean.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Store directory, as `dfml index` made it.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
    /// Least probability that two items show the same product; needs a calibrated model (`dfml calibrate`).
    #[arg(long, value_name = "P", conflicts_with = "threshold", required_unless_present = "threshold")]
    min_probability: Option<f64>,
    /// Least cosine similarity.
    #[arg(long, value_name = "S")]
    threshold: Option<f32>,
    /// Only clusters with items of two products or more: the same thing under two names.
    #[arg(long)]
    across_products: bool,
    /// Where the JSON lines go; standard output if not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write a report to look at.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Folder of the catalogue's pictures, for the report.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
}

pub(super) fn run(args: Args, _: Settings) -> anyhow::Result<Done> {
    let manifest = Manifest::load(&args.model).with_context(|| format!("model {}", args.model.display()))?;
    let threshold = threshold(&args, &manifest)?;
    let options = OpenOptions::new(manifest.embedding_dim, manifest.fingerprint());
    let index = EmbeddedIndex::open(&args.catalogue, options)
        .with_context(|| format!("store {}", args.catalogue.display()))?;
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new("comparing", index.count());
    let clusters = duplicates::find(&index, threshold, args.across_products, |items| {
        (0..items).for_each(|_| progress.step());
        !interrupt.requested()
    })?;
    progress.finish();
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(BufWriter::new(fs_err::File::create(path)?)),
        None => Box::new(BufWriter::new(std::io::stdout().lock())),
    };
    for cluster in &clusters {
        serde_json::to_writer(&mut out, cluster)?;
        writeln!(out)?;
    }
    out.flush()?;
    if let Some(path) = &args.html {
        let mut page = BufWriter::new(fs_err::File::create(path)?);
        duplicates::write_html(&mut page, &clusters, threshold, &prefix(args.images.as_deref()))?;
        page.flush()?;
    }
    let items: usize = clusters.iter().map(|cluster| cluster.items.len()).sum();
    eprintln!(
        "{} clusters of {items} items among {}, similarity at least {threshold:.4}",
        clusters.len(),
        index.count()
    );
    Ok(if interrupt.requested() { Done::Interrupted } else { Done::Complete })
}

fn threshold(args: &Args, manifest: &Manifest) -> anyhow::Result<f32> {
    match (args.threshold, args.min_probability) {
        (Some(similarity), _) if (-1.0..=1.0).contains(&similarity) => Ok(similarity),
        (None, Some(least)) if (0.0..=1.0).contains(&least) => {
            let calibration = manifest
                .calibration
                .as_ref()
                .context("the model is not calibrated; run `dfml calibrate` or give --threshold")?;
            let similarity = calibration.similarity(least).context("the model is never that certain")?;
            Ok(similarity as f32)
        }
        _ => bail!("--threshold is from -1 to 1, --min-probability from 0 to 1"),
    }
}

/// What goes before the paths of the pictures in the report.
fn prefix(images: Option<&Path>) -> String {
    match images {
        Some(folder) => {
            format!("{}/", std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf()).display())
        }
        None => String::new(),
    }
}
