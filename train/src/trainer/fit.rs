//! One training run, from pretrained weights to a run directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use dfml_index::metrics::Retrieval;
use dfml_models::{Architecture, EfficientNetLite, LiteVariant, TensorMap, Transform};
use serde::Serialize;
use tch::{Device, Tensor};

use super::{
    AdamW, AdamWOptions, Objective, ParamGroup, embed_dataset, evaluate, learning_rate, principal_embedding,
    run_dir, summary,
};
use crate::config::TrainConfig;
use crate::data::{Augment, Dataset, Loader, epoch_batches};
use crate::error::TrainError;
use crate::loss::ProxyAnchor;
use crate::nn::{self, Group, Network, NetworkOptions};
use crate::progress::Progress;

/// What a run is made from.
#[derive(Debug, Clone)]
pub struct FitOptions {
    /// Settings.
    pub config: TrainConfig,
    /// Folder that holds the lists.
    pub data: PathBuf,
    /// Folder that the lists' paths start from; each list's own folder if `None`.
    pub root: Option<PathBuf>,
    /// Pretrained weights.
    pub weights: PathBuf,
    /// Run directory to write.
    pub out: PathBuf,
    /// Seed of everything random.
    pub seed: u64,
}

/// Means over one epoch.
#[derive(Debug, Clone, Serialize)]
pub struct EpochRecord {
    /// 1-based.
    pub epoch: usize,
    /// Mean total loss.
    pub loss: f64,
    /// Mean Proxy-Anchor loss of the full stream.
    pub full: f64,
    /// Mean Proxy-Anchor loss of the routed stream.
    pub routed: f64,
    /// Mean distillation term.
    pub distill: f64,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Share of images per sub-block, averaged over routers.
    pub usage: Vec<f64>,
}

/// What came out of a run.
#[derive(Debug, Clone, Serialize)]
pub struct FitReport {
    /// Retrieval on the test list before training (pretrained weights, principal components).
    pub before: Retrieval,
    /// Retrieval on the test list after training.
    pub after: Retrieval,
    /// One record per epoch.
    pub epochs: Vec<EpochRecord>,
    /// Wall time of the training loop in seconds.
    pub train_seconds: f64,
    /// Training images.
    pub images: usize,
    /// Training classes.
    pub classes: usize,
    /// The seed.
    pub seed: u64,
}

/// Runs a training: reads the lists, builds the factorised network with its embedding layer started from principal
/// components, trains, evaluates before and after, and writes the run directory.
///
/// # Errors
/// Any [`TrainError`]; the run directory then holds the last checkpoint written.
pub fn fit(options: &FitOptions) -> Result<FitReport, TrainError> {
    let config = &options.config;
    let device = Device::Cpu;
    tch::manual_seed(options.seed as i64);
    let train_list = options.data.join(&config.data.train);
    let train = Arc::new(Dataset::read_sop(&train_list, options.root.as_deref())?);
    train.check_trainable(&train_list)?;
    let test = Dataset::read_sop(&options.data.join(&config.data.test), options.root.as_deref())?;
    let transform = run_dir::eval_transform(&config.data);
    let network = build(options, &train, &transform, device)?;
    eprintln!(
        "{}: {} images of {} classes, test {} images of {} classes, {} sub-blocks, seed {}",
        config.name,
        train.images.len(),
        train.classes,
        test.images.len(),
        test.classes,
        config.model.sub_blocks,
        options.seed
    );
    let judge = |label: &str| {
        let embeddings = embed_dataset(&*network, &test, &transform, device, label)?;
        evaluate(&embeddings, &test.labels)
    };
    let before = judge("evaluate before")?;
    eprintln!("before: {}", summary(&before));

    let started = Instant::now();
    let epochs = train_epochs(options, &*network, &train, &transform, device)?;
    let train_seconds = started.elapsed().as_secs_f64();
    let after = judge("evaluate after")?;
    eprintln!("after:  {}", summary(&after));
    let report = FitReport {
        before,
        after,
        epochs,
        train_seconds,
        images: train.images.len(),
        classes: train.classes,
        seed: options.seed,
    };
    run_dir::write(options, &*network, &test, &transform, &report, device)?;
    Ok(report)
}

/// The factorised network of the configuration with pretrained weights.
fn build(
    options: &FitOptions,
    train: &Arc<Dataset>,
    transform: &Transform,
    device: Device,
) -> Result<Box<dyn Network>, TrainError> {
    let model = &options.config.model;
    let mut weights: TensorMap = dfml_models::load_weights(&options.weights)?;
    let bare = Architecture::EfficientnetLite(EfficientNetLite {
        variant: LiteVariant::Lite0,
        sub_blocks: model.sub_blocks,
        embedding_dim: None,
    });
    let network_options = NetworkOptions {
        frozen_blocks: model.frozen_blocks,
        gap_weight: options.config.loss.gap,
        seed: options.seed,
        ..NetworkOptions::default()
    };
    let network = nn::build(&bare, &weights, &network_options, device)?;
    principal_embedding(&*network, train, transform, model.embedding_dim, &mut weights, device)?;
    nn::build(&bare.with_embedding_layer(Some(model.embedding_dim)), &weights, &network_options, device)
}

/// Index of the proxies' parameter group.
const PROXIES: usize = 0;

fn optimizer(config: &TrainConfig, network: &dyn Network, proxies: &Tensor) -> AdamW {
    let settings = &config.optimizer;
    let of = |group: Group| -> Vec<Tensor> {
        let params = network.params().trainable().filter(|(_, param)| param.group == group);
        params.map(|(_, param)| param.tensor.shallow_clone()).collect()
    };
    let groups = vec![
        ParamGroup { factor: settings.proxy_factor, tensors: vec![proxies.shallow_clone()] },
        ParamGroup { factor: 1.0, tensors: of(Group::Backbone) },
        ParamGroup { factor: settings.embedding_factor, tensors: of(Group::Embedding) },
        ParamGroup { factor: settings.router_factor, tensors: of(Group::Router) },
    ];
    let options = AdamWOptions {
        weight_decay: settings.weight_decay,
        clip_value: settings.clip_value,
        ..Default::default()
    };
    AdamW::new(groups, options)
}

fn train_epochs(
    options: &FitOptions,
    network: &dyn Network,
    train: &Arc<Dataset>,
    transform: &Transform,
    device: Device,
) -> Result<Vec<EpochRecord>, TrainError> {
    let config = &options.config;
    let (data, settings) = (&config.data, &config.optimizer);
    let proxy_anchor = ProxyAnchor::new(
        train.classes as i64,
        config.model.embedding_dim as i64,
        config.loss.margin,
        config.loss.alpha,
        device,
    );
    let objective = Objective { proxy_anchor, config: config.loss.clone() };
    let mut optimizer = optimizer(config, network, &objective.proxy_anchor.proxies);
    let augment =
        Augment { size: data.image_size, min_area: data.min_crop_area, color_jitter: data.color_jitter };
    let mut records = Vec::new();
    let mut step = 0;
    for epoch in 1..=settings.epochs {
        let batches =
            epoch_batches(&train.labels, data.batch_size, data.images_per_class, options.seed, epoch);
        let per_epoch = batches.len();
        let images: usize = batches.iter().map(Vec::len).sum();
        let progress = Progress::new(&format!("epoch {epoch}/{}", settings.epochs), images as u64);
        let mut means = EpochMeans::new(config.model.sub_blocks);
        for batch in Loader::start(Arc::clone(train), batches, augment, options.seed, epoch) {
            let batch = batch?;
            let warm = (step as f64) < settings.warm_epochs * per_epoch as f64;
            let factor = learning_rate(settings.schedule, step, settings.epochs * per_epoch, per_epoch);
            optimizer.zero_grad();
            let loss = objective.loss(network, &batch.to_pixels(transform, device), &batch.to_labels(device));
            let value = loss.total.double_value(&[]);
            if !value.is_finite() {
                return Err(not_finite(value, epoch, means.steps + 1, train, &batch.images));
            }
            loss.total.backward();
            optimizer.step(settings.learning_rate * factor, |group| !warm || group == PROXIES);
            means.add(value, &loss);
            progress.add_with(batch.images.len() as u64, &format!("loss {value:.3}"));
            step += 1;
        }
        progress.finish();
        let record = means.record(epoch);
        eprintln!(
            "epoch {epoch}: loss {:.3} (full {:.3}, routed {:.3}, distillation {:.3}), sub-block use {:.2?}",
            record.loss, record.full, record.routed, record.distill, record.usage
        );
        records.push(record);
    }
    Ok(records)
}

fn not_finite(value: f64, epoch: usize, step: usize, train: &Dataset, images: &[usize]) -> TrainError {
    let files = images.iter().map(|&image| train.images[image].display().to_string()).collect();
    TrainError::NotFinite { value, epoch, step, files, checkpoint: None }
}

/// Running sums of one epoch.
struct EpochMeans {
    steps: usize,
    sums: [f64; 4],
    usage: Vec<f64>,
    routed: f64,
    started: Instant,
}

impl EpochMeans {
    fn new(sub_blocks: usize) -> Self {
        Self { steps: 0, sums: [0.0; 4], usage: vec![0.0; sub_blocks], routed: 0.0, started: Instant::now() }
    }

    fn add(&mut self, total: f64, loss: &super::StepLoss) {
        self.steps += 1;
        for (sum, value) in self.sums.iter_mut().zip([total, loss.full, loss.routed, loss.distill]) {
            *sum += value;
        }
        for route in &loss.routes {
            for (k, count) in self.usage.iter_mut().enumerate() {
                *count += route.eq(k as i64).sum(tch::Kind::Int64).int64_value(&[]) as f64;
            }
            self.routed += route.numel() as f64;
        }
    }

    fn record(self, epoch: usize) -> EpochRecord {
        let n = self.steps.max(1) as f64;
        let [loss, full, routed, distill] = self.sums.map(|sum| sum / n);
        let total = self.routed.max(1.0);
        EpochRecord {
            epoch,
            loss,
            full,
            routed,
            distill,
            seconds: self.started.elapsed().as_secs_f64(),
            usage: self.usage.iter().map(|count| count / total).collect(),
        }
    }
}
