//! `dfml eval`: retrieval quality of a model on lists of images.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::bail;
use dfml_index::{
    metrics::{self, Clustering, Labelled, Retrieval},
    sop::SopList,
};
use dfml_models::Evaluation;
use dfml_serve::{
    bulk::{BulkOptions, embed_files},
    engine::Engine,
    settings::Settings,
};
use serde::Serialize;

use super::{Done, interrupt::Interrupt, options::EngineArgs, progress::Progress};

/// Seed of k-means, that of `dfml-train eval`.
const CLUSTER_SEED: u64 = 1;

/// Measure how well a model finds the right products.
///
/// Every query image is searched in the gallery; it is found if an image of its class comes back. Without --queries, every
/// gallery image is a query for the others.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml eval --model model --gallery gallery.txt --queries query_views.txt --queries query_icons.txt
  dfml eval --model model --gallery Ebay_test.txt -k 1 -k 10 -k 100 -k 1000 --json result.json --record")]
pub(super) struct Args {
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// List of the images that are searched.
    #[arg(long, value_name = "LIST")]
    gallery: PathBuf,
    /// List of the images that are searched with; several are evaluated one by one.
    #[arg(long, value_name = "LIST")]
    queries: Vec<PathBuf>,
    /// Folder that the lists' paths start from; each list's own folder if not given.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Ranks at which recall is measured.
    #[arg(short, value_name = "K", default_values_t = [1, 10])]
    k: Vec<u32>,
    /// Also cluster the gallery by k-means and compare with its classes (NMI, AMI, F1); takes long on large galleries.
    #[arg(long)]
    clusters: bool,
    /// Also write the figures to a JSON file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also record the figures in the model's manifest.
    #[arg(long)]
    record: bool,
    /// Exit with code 1 if any image was left out.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Vectors and classes of the images of a list that could be read.
pub(super) struct Embedded {
    dim: usize,
    /// `[images, dim]`
    pub(super) vectors: Vec<f32>,
    pub(super) classes: Vec<u64>,
    left_out: usize,
}

/// The figures on one line.
pub(super) fn one_line(evaluation: &Evaluation) -> String {
    let recall = evaluation.recall_at_k.iter().map(|(k, recall)| format!("Recall@{k} {recall:.4}"));
    let rest = [format!("RP {:.4}", evaluation.r_precision), format!("MAP@R {:.4}", evaluation.map_at_r)];
    let counts = format!("({} queries, {} gallery images)", evaluation.queries, evaluation.gallery);
    recall.chain(rest).chain([counts]).collect::<Vec<_>>().join("  ")
}

/// The figures for one list of queries.
#[derive(Serialize)]
struct Figures {
    #[serde(flatten)]
    evaluation: Evaluation,
    /// Queries whose class is in the gallery; R-precision and MAP@R average over these.
    answerable: usize,
    /// Query images that could not be read.
    left_out: usize,
    /// Agreement of the gallery's clusters with its classes, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    clustering: Option<Clustering>,
}

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    if args.k.contains(&0) {
        bail!("-k: ranks start at 1");
    }
    let read = |path: &PathBuf| SopList::read(path, args.root.as_deref()).map(|list| (path.clone(), list));
    let gallery = read(&args.gallery)?;
    let queries = args.queries.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let (engine, bulk) = args.engine.load_bulk(&args.model, &mut settings)?;
    let embedder = Embedder { engine: &engine, bulk, interrupt: Interrupt::listen()? };
    let Some(found) = embedder.embed(&gallery.0, &gallery.1)? else { return Ok(Done::Interrupted) };
    let mut left_out = found.left_out;
    let mut results = Vec::new();
    if queries.is_empty() {
        let dataset = name(&gallery.0);
        results.push(Figures::new(
            dataset,
            metrics::evaluate(found.labelled(), None, &args.k)?,
            found.left_out,
        ));
    }
    for (path, list) in &queries {
        let Some(asked) = embedder.embed(path, list)? else { return Ok(Done::Interrupted) };
        left_out += asked.left_out;
        let retrieval = metrics::evaluate(found.labelled(), Some(asked.labelled()), &args.k)?;
        results.push(Figures::new(
            format!("{} in {}", name(path), name(&gallery.0)),
            retrieval,
            asked.left_out,
        ));
    }
    if args.clusters {
        let clustering = metrics::cluster_quality(found.labelled(), CLUSTER_SEED)?;
        println!("{}: {}", name(&gallery.0), clustering.one_line());
        results.iter_mut().for_each(|figures| figures.clustering = Some(clustering));
    }
    for figures in &results {
        println!("{}: {}", figures.evaluation.dataset, one_line(&figures.evaluation));
    }
    if let Some(path) = &args.json {
        write_json(path, &args, &engine, &found, &results)?;
    }
    if args.record {
        record(&args.model, &engine, results)?;
    }
    match left_out {
        0 => {}
        n if args.strict => bail!("{n} images were left out"),
        n => eprintln!("warning: {n} images were left out"),
    }
    Ok(Done::Complete)
}

/// Embeds lists with one model.
pub(super) struct Embedder<'a> {
    pub(super) engine: &'a Engine,
    pub(super) bulk: BulkOptions,
    pub(super) interrupt: Interrupt,
}

impl Embedder<'_> {
    /// Embeds a list in its order; `None` if interrupted.
    pub(super) fn embed(&self, path: &Path, list: &SopList) -> anyhow::Result<Option<Embedded>> {
        let files: Vec<PathBuf> = list.entries.iter().map(|entry| list.root.join(&entry.path)).collect();
        let mut vectors = vec![None; files.len()];
        let mut progress = Progress::new("embedding", files.len());
        embed_files(self.engine, &files, &self.bulk, |position, result| {
            match result {
                Ok(embedding) => vectors[position] = Some(embedding.vector),
                Err(error) => {
                    let line = list.entries[position].line;
                    progress.line(&format!("warning: {}:{line}: {error}", path.display()));
                }
            }
            progress.step();
            if self.interrupt.requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        progress.finish();
        if self.interrupt.requested() {
            return Ok(None);
        }
        let dim = self.engine.manifest().embedding_dim;
        let mut embedded = Embedded { dim, vectors: Vec::new(), classes: Vec::new(), left_out: 0 };
        for (entry, vector) in list.entries.iter().zip(vectors) {
            match vector {
                Some(vector) => {
                    embedded.vectors.extend(vector);
                    embedded.classes.push(entry.class_id);
                }
                None => embedded.left_out += 1,
            }
        }
        Ok(Some(embedded))
    }
}

impl Embedded {
    pub(super) fn labelled(&self) -> Labelled<'_, u64> {
        Labelled { vectors: &self.vectors, dim: self.dim, labels: &self.classes }
    }
}

impl Figures {
    fn new(dataset: String, retrieval: Retrieval, left_out: usize) -> Self {
        let evaluation = Evaluation {
            dataset,
            queries: retrieval.queries,
            gallery: retrieval.gallery,
            recall_at_k: retrieval.recall_at_k,
            r_precision: retrieval.r_precision,
            map_at_r: retrieval.map_at_r,
        };
        Self { evaluation, answerable: retrieval.answerable, left_out, clustering: None }
    }
}

/// A list's file name without its extension.
pub(super) fn name(list: &Path) -> String {
    list.file_stem().unwrap_or(list.as_os_str()).to_string_lossy().into_owned()
}

fn write_json(
    path: &Path,
    args: &Args,
    engine: &Engine,
    gallery: &Embedded,
    results: &[Figures],
) -> anyhow::Result<()> {
    let report = serde_json::json!({
        "model": engine.manifest().name,
        "fingerprint": engine.manifest().fingerprint(),
        "provider": engine.provider(),
        "gallery": { "list": name(&args.gallery), "images": gallery.classes.len(), "left_out": gallery.left_out },
        "results": results,
    });
    let mut text = serde_json::to_string_pretty(&report)?;
    text.push('\n');
    Ok(fs_err::write(path, text)?)
}

/// Puts the figures into the manifest, in place of older ones of the same lists.
fn record(model: &Path, engine: &Engine, results: Vec<Figures>) -> anyhow::Result<()> {
    let mut manifest = engine.manifest().clone();
    for Figures { evaluation, .. } in results {
        manifest.evaluation.retain(|known| known.dataset != evaluation.dataset);
        manifest.evaluation.push(evaluation);
    }
    Ok(manifest.save(model)?)
}
