//! A trained network judged as a whole, routed, and by each sub-block: what it gives for what it costs.

use std::path::Path;

use dfml_models::arch::cost::{Macs, macs};
use dfml_models::{Architecture, TensorMap, Transform, load_metadata, load_weights};
use serde::Serialize;
use tch::Device;

use super::Objective;
use super::checkpoint::Checkpoint;
use super::evaluate::{EvalOptions, Quality, judge};
use super::pretrained::{eval_transform, network_options, resolve};
use super::run_dir::LOSS_FILE;
use crate::config::TrainConfig;
use crate::data::TestSet;
use crate::error::TrainError;
use crate::loss::LossKind;
use crate::nn::{Effort, Network, build};

/// A network from a file, ready to embed.
#[derive(Debug)]
pub struct LoadedNetwork {
    /// The network.
    pub network: Box<dyn Network>,
    /// From image to pixels.
    pub transform: Transform,
    /// The settings it was trained with, or that were given.
    pub config: TrainConfig,
    /// The trained classifier, if it was trained as one.
    pub classifier: Option<Objective>,
    /// Where it computes.
    pub device: Device,
}

impl LoadedNetwork {
    /// Reads a run's `checkpoint.safetensors`, one of its `checkpoints/`, or plain weights, which need `config`. `config` goes over the
    /// settings in the file, `overrides` (`section.key=value`) over both.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged; plain weights without settings; weights that do not fit.
    pub fn load(path: &Path, config: Option<TrainConfig>, overrides: &[String]) -> Result<Self, TrainError> {
        let error =
            |reason: &str| TrainError::Checkpoint { path: path.to_owned(), reason: reason.to_owned() };
        let is_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
        let metadata = if is_safetensors { load_metadata(path)? } else { Default::default() };
        let (weights, own, recorded, architecture) = if metadata.contains_key("header") {
            let checkpoint = Checkpoint::load(path)?;
            let averaged = checkpoint.ema;
            let weights = if averaged.is_empty() { checkpoint.network } else { averaged };
            (weights, checkpoint.loss, Some(checkpoint.header.config), Some(checkpoint.header.architecture))
        } else {
            let architecture =
                metadata.get("architecture").map(|text| serde_json::from_str::<Architecture>(text));
            let architecture =
                architecture.transpose().map_err(|e| error(&format!("its architecture: {e}")))?;
            let beside = path.with_file_name(LOSS_FILE);
            let own = if beside.is_file() { load_weights(beside)? } else { TensorMap::new() };
            (load_weights(path)?, own, metadata.get("config").cloned(), architecture)
        };
        let config = match (config, recorded) {
            (Some(config), _) => config,
            (None, Some(text)) => TrainConfig::parse(path, &text, overrides)?,
            (None, None) => return Err(error("it holds no settings: give them with --config")),
        };
        let device = config.run.device()?;
        Self::build(weights, &own, architecture, config, device)
    }

    fn build(
        weights: TensorMap,
        own: &TensorMap,
        architecture: Option<Architecture>,
        config: TrainConfig,
        device: Device,
    ) -> Result<Self, TrainError> {
        let resolved = resolve(&config, &weights)?;
        let architecture = architecture.unwrap_or_else(|| {
            // Pretrained weights are judged by their features.
            let layer = weights.get("embedding.weight").and_then(|weight| weight.shape.first().copied());
            resolved.architecture.with_embedding_layer(layer)
        });
        let network = build(&architecture, &weights, &network_options(&config, 0), device)?;
        let classes = own.get("weight").and_then(|weight| weight.shape.first().copied());
        let classifier = match (&config.loss.metric, classes) {
            (LossKind::Softmax(_), Some(classes)) => {
                let objective =
                    Objective::new(&config.loss, &architecture, &TensorMap::new(), classes, false, device);
                objective.restore(own)?;
                Some(objective)
            }
            _ => None,
        };
        let transform = eval_transform(&config.data, resolved.scale);
        Ok(Self { network, transform, config, classifier, device })
    }
}

/// Figures of a part of a network.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// Which part: `all`, `routed`, `sub-block K`.
    pub part: String,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Figures.
    #[serde(flatten)]
    pub quality: Quality,
}

/// Judges the whole network; with `efforts`, also the routed one and each sub-block by itself.
///
/// # Errors
/// As [`judge`].
pub fn judge_efforts(
    loaded: &LoadedNetwork,
    test: &TestSet,
    recall_at: &[u32],
    efforts: bool,
    with_clusters: bool,
) -> Result<Vec<Judged>, TrainError> {
    let architecture = loaded.network.architecture();
    let (height, width) = (loaded.transform.crop_height as usize, loaded.transform.crop_width as usize);
    let cost: Macs = macs(&architecture, height, width, loaded.config.model.frozen_blocks);
    let mut parts = vec![("all".to_owned(), Effort::All, cost.full)];
    if efforts && architecture.sub_blocks() > 1 {
        parts.push(("routed".to_owned(), Effort::Routed, cost.routed));
        parts.extend(
            (0..architecture.sub_blocks())
                .map(|k| (format!("sub-block {}", k + 1), Effort::SubBlock(k), cost.sub_block)),
        );
    }
    let judge_part = |(part, effort, macs): (String, Effort, u64)| {
        let options = EvalOptions {
            transform: &loaded.transform,
            on_bad_image: loaded.config.data.on_bad_image,
            device: loaded.device,
            effort,
        };
        let network = loaded.network.as_ref();
        let (quality, _) =
            judge(network, test, options, loaded.classifier.as_ref(), recall_at, with_clusters, &part)?;
        Ok(Judged { part, macs, quality })
    };
    parts.into_iter().map(judge_part).collect()
}

impl Judged {
    /// The figures side by side: one row per part, cost in millions of multiply-accumulates and as a share of the whole.
    pub fn table(rows: &[Self]) -> String {
        let Some(first) = rows.first() else { return String::new() };
        let ks: Vec<u32> = first.quality.retrieval.recall_at_k.keys().copied().collect();
        let mut head = format!("{:<12} {:>10} {:>7}", "part", "MMACs", "cost");
        ks.iter().for_each(|k| head += &format!(" {:>8}", format!("R@{k}")));
        head += &format!(" {:>8} {:>8}", "RP", "MAP@R");
        if first.quality.clustering.is_some() {
            head += &format!(" {:>8} {:>8} {:>8}", "NMI", "AMI", "F1");
        }
        if first.quality.top1_top5.is_some() {
            head += &format!(" {:>8} {:>8}", "top-1", "top-5");
        }
        let mut text = head;
        for row in rows {
            let share = row.macs as f64 / first.macs.max(1) as f64 * 100.0;
            text += &format!("\n{:<12} {:>10.1} {share:>6.1}%", row.part, row.macs as f64 / 1e6);
            let retrieval = &row.quality.retrieval;
            retrieval.recall_at_k.values().for_each(|recall| text += &format!(" {recall:>8.4}"));
            text += &format!(" {:>8.4} {:>8.4}", retrieval.r_precision, retrieval.map_at_r);
            if let Some(clusters) = &row.quality.clustering {
                text += &format!(" {:>8.4} {:>8.4} {:>8.4}", clusters.nmi, clusters.ami, clusters.f1);
            }
            if let Some((top1, top5)) = row.quality.top1_top5 {
                text += &format!(" {top1:>8.4} {top5:>8.4}");
            }
        }
        let retrieval = &first.quality.retrieval;
        text + &format!("\n{} queries in {} images", retrieval.queries, retrieval.gallery)
    }
}
