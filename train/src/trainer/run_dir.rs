//! What a run leaves behind: checkpoint, figures, plots, a page, and the model directory that servers load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dfml_index::metrics::nearest;
use dfml_models::{
    ExportRequest, Lineage, Reference, RgbImage8, TensorMap, save_safetensors, sha256_file, sha256_hex,
    write_model_dir,
};

use super::evaluate::{Embedded, EmbeddedTest};
use super::fit::{FitOptions, FitReport};
use super::pretrained::seeded_subset;
use super::run::Run;
use crate::config::{BadImage, SelectOn};
use crate::data::{Dataset, TestSet, eval_pixels};
use crate::error::TrainError;
use crate::nn::params::to_host;
use crate::report::{Page, Search, SearchResult, loss_curves, router_use};

/// Name of the file of the loss's own tensors (proxies, classifier) in a run directory.
pub(super) const LOSS_FILE: &str = "loss.safetensors";
/// Images whose libtorch embeddings travel with the model as its known-answer test.
const REFERENCE_IMAGES: usize = 50;
/// Searches that the page shows, and results of each.
const SEARCHES: usize = 24;
const RESULTS: usize = 9;

/// Writes `checkpoint.safetensors` (factorised, with routers; the loss's own tensors in `loss.safetensors`), `plots/`, `report.html`,
/// `config.toml`, `model/` and, last of all, `metrics.json`.
///
/// # Errors
/// A file that cannot be written, by path; weights that do not fit the architecture, by tensor.
pub(super) fn write(
    options: &FitOptions,
    run: &Run<'_>,
    test: &TestSet,
    embedded: &EmbeddedTest,
    report: &FitReport,
) -> Result<(), TrainError> {
    let out = &options.out;
    let config = options.config.to_toml()?;
    fs_err::write(out.join("config.toml"), &config)?;
    let checkpoint = out.join("checkpoint.safetensors");
    let metadata = BTreeMap::from([
        ("architecture".to_owned(), to_json(&run.network.architecture())?),
        ("transform".to_owned(), to_json(&run.transform)?),
        ("config".to_owned(), config.clone()),
        ("name".to_owned(), options.config.name.clone()),
        ("seed".to_owned(), options.seed.to_string()),
    ]);
    save_safetensors(&checkpoint, &run.network.checkpoint()?, &metadata)?;
    let own = run.objective.parameters().into_iter();
    let own: TensorMap = own.map(|(name, tensor)| (name.to_owned(), to_host(tensor))).collect();
    if !own.is_empty() {
        save_safetensors(out.join(LOSS_FILE), &own, &BTreeMap::new())?;
    }

    let lineage = Lineage {
        weights_sha256: run.state.weights_sha256.clone(),
        data_sha256: Some(sha256_hex(run.train.listing(&options.data).as_bytes())),
        config_sha256: Some(sha256_hex(config.as_bytes())),
        checkpoint_sha256: Some(sha256_file(&checkpoint)?),
        seed: Some(options.seed),
        producer: format!("dfml-train {}", env!("CARGO_PKG_VERSION")),
    };
    let request = ExportRequest {
        name: options.config.name.clone(),
        architecture: run.network.architecture(),
        weights: &run.network.dense()?,
        transform: run.transform.clone(),
        lineage,
        reference: Some(reference(run, &test.gallery)?),
    };
    write_model_dir(out.join("model"), &request)?;
    write_page(options, run, test, embedded, report)?;
    // Last, so that a run directory with figures is a whole one.
    fs_err::write(out.join("metrics.json"), to_json(report)?)?;
    Ok(())
}

/// Embeddings of real images as this network computes them.
fn reference(run: &Run<'_>, test: &Dataset) -> Result<Reference, TrainError> {
    let subset = seeded_subset(test, REFERENCE_IMAGES, 0);
    let paths: Vec<PathBuf> = subset.iter().map(|&image| test.images[image].clone()).collect();
    let batch = eval_pixels(&paths, &run.transform, run.config.data.on_bad_image, run.device)?;
    let embeddings = to_host(&tch::no_grad(|| run.network.embed(&batch.pixels)));
    let dim = embeddings.shape.last().copied().unwrap_or(1).max(1);
    Ok(Reference {
        pixels: batch.images,
        embeddings: embeddings.data.chunks(dim).map(<[f32]>::to_vec).collect(),
    })
}

fn write_page(
    options: &FitOptions,
    run: &Run<'_>,
    test: &TestSet,
    embedded: &EmbeddedTest,
    report: &FitReport,
) -> Result<(), TrainError> {
    let plots = options.out.join("plots");
    fs_err::create_dir_all(&plots)?;
    let draw = |error: Box<dyn std::error::Error + Send + Sync>| TrainError::Io(std::io::Error::other(error));
    let mut drawn = vec![("loss.svg", loss_curves(&run.log.steps()?).map_err(draw)?)];
    if let Some(routers) = router_use(&report.epochs).map_err(draw)? {
        drawn.push(("routers.svg", routers));
    }
    for (name, svg) in &drawn {
        fs_err::write(plots.join(name), svg)?;
    }
    let page = Page {
        title: options.config.name.clone(),
        facts: facts(options, run, report),
        mark: (report.selected_on == SelectOn::Test).then(|| {
            "The epoch was chosen on the test set, as the official code does: these figures are too good."
                .to_owned()
        }),
        columns: ["before training", "after training"].map(str::to_owned).to_vec(),
        figures: figures(report),
        plots: drawn.into_iter().map(|(_, svg)| svg).collect(),
        searches: searches(run, test, embedded)?,
    };
    let html = page.html().map_err(std::io::Error::other)?;
    Ok(fs_err::write(options.out.join("report.html"), html)?)
}

fn facts(options: &FitOptions, run: &Run<'_>, report: &FitReport) -> Vec<String> {
    let loss = &options.config.loss;
    let streams = if loss.is_routed() {
        format!("{} sub-blocks per block, routed and full stream", options.config.model.sub_blocks)
    } else {
        "the plain network, no routed stream".to_owned()
    };
    let mut facts = vec![
        format!(
            "Trained on {} images of {} classes for {} epochs ({:.0} s of steps), seed {}; {streams}.",
            report.images,
            report.classes,
            report.epochs.len(),
            report.train_seconds,
            report.seed
        ),
        format!(
            "Judged on {} queries in {} images. Weights of epoch {} ({}).",
            report.after.retrieval.queries,
            report.after.retrieval.gallery,
            report.best_epoch,
            match report.selected_on {
                SelectOn::Validation => "best on classes held back from training",
                SelectOn::Last => "the last",
                SelectOn::Test => "best on the test set",
            }
        ),
    ];
    if !report.skipped.is_empty() {
        facts.push(format!(
            "{} training images could not be decoded and were left out.",
            report.skipped.len()
        ));
    }
    if run.ema.is_some() {
        facts.push(format!(
            "The weights are a moving average (decay {}).",
            options.config.optimizer.ema_decay
        ));
    }
    facts
}

fn figures(report: &FitReport) -> Vec<(String, Vec<String>)> {
    let named = |quality: &super::Quality| {
        let retrieval = &quality.retrieval;
        let mut all: Vec<(String, f64)> =
            retrieval.recall_at_k.iter().map(|(k, recall)| (format!("Recall@{k}"), *recall)).collect();
        all.push(("R-precision".to_owned(), retrieval.r_precision));
        all.push(("MAP@R".to_owned(), retrieval.map_at_r));
        if let Some(clusters) = &quality.clustering {
            all.extend(
                [("NMI", clusters.nmi), ("AMI", clusters.ami), ("F1", clusters.f1)]
                    .map(|(n, v)| (n.to_owned(), v)),
            );
        }
        if let Some((top1, top5)) = quality.top1_top5 {
            all.extend([("top-1", top1), ("top-5", top5)].map(|(n, v)| (n.to_owned(), v)));
        }
        all
    };
    let before = report.before.as_ref().map(named).unwrap_or_default();
    let value =
        |name: &str| before.iter().find(|(known, _)| known == name).map(|(_, value)| format!("{value:.4}"));
    let after = named(&report.after).into_iter();
    after
        .map(|(name, after)| (name.clone(), vec![value(&name).unwrap_or_default(), format!("{after:.4}")]))
        .collect()
}

/// Some queries spread over the test set, each with what it finds.
fn searches(run: &Run<'_>, test: &TestSet, embedded: &EmbeddedTest) -> Result<Vec<Search>, TrainError> {
    let (asked, asked_of) = match (&embedded.queries, &test.queries) {
        (Some(queries), Some(dataset)) => (queries, dataset),
        _ => (&embedded.gallery, &test.gallery),
    };
    let is_gallery = embedded.queries.is_none();
    let dim = asked.dim;
    let step = (asked.kept.len() / SEARCHES).max(1);
    let chosen: Vec<usize> = (0..asked.kept.len()).step_by(step).take(SEARCHES).collect();
    let vectors: Vec<f32> =
        chosen.iter().flat_map(|&query| asked.vectors[query * dim..][..dim].to_vec()).collect();
    // One more, as an image of the gallery finds itself.
    let found =
        nearest(&embedded.gallery.vectors, Some(&vectors), dim, |_| RESULTS + 1, |_, found| found.to_vec());
    chosen
        .iter()
        .zip(found)
        .map(|(&query, found)| {
            let found = found.into_iter().filter(|hit| !(is_gallery && hit.position == query)).take(RESULTS);
            let hits: Vec<_> = found.collect();
            let mut images = vec![asked_of.images[asked.kept[query]].clone()];
            images.extend(
                hits.iter().map(|hit| test.gallery.images[embedded.gallery.kept[hit.position]].clone()),
            );
            // All of them have been read before.
            let mut pictures =
                eval_pixels(&images, &run.transform, BadImage::Error, tch::Device::Cpu)?.images.into_iter();
            let gallery: &Embedded = &embedded.gallery;
            let result = |(hit, image): (&dfml_index::metrics::Neighbour, RgbImage8)| SearchResult {
                image,
                name: file_name(&test.gallery.images[gallery.kept[hit.position]]),
                score: hit.score,
                is_right: gallery.labels[hit.position] == asked.labels[query],
            };
            let empty = RgbImage8 { width: 0, height: 0, data: Vec::new() };
            Ok(Search {
                query: pictures.next().unwrap_or(empty),
                name: file_name(&images[0]),
                results: hits.iter().zip(pictures).map(result).collect(),
            })
        })
        .collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, TrainError> {
    serde_json::to_string_pretty(value).map_err(|e| TrainError::Io(std::io::Error::other(e)))
}
