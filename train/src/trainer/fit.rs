//! One training run, from pretrained weights to a run directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dfml_models::{TensorMap, load_weights, sha256_file};
use serde::Serialize;
use tch::Device;

use super::checkpoint::{Checkpoint, CheckpointDir};
use super::evaluate::{EmbeddedTest, EvalOptions, Quality, judge};
use super::loss_scale::LossScale;
use super::pretrained::{build_pretrained, eval_transform, network_options, resolve, weights_file};
use super::run::{Run, make_optimizer};
use super::run_dir;
use super::state::{EpochRecord, RunState};
use super::{Ema, Objective};
use crate::config::{Precision, SelectOn, TrainConfig};
use crate::data::{Dataset, Splits, TestSet, read_splits};
use crate::error::TrainError;
use crate::nn::{Effort, build};
use crate::report::RunLog;

/// What a run is made from.
#[derive(Debug, Clone)]
pub struct FitOptions {
    /// Settings.
    pub config: TrainConfig,
    /// The data folder.
    pub data: PathBuf,
    /// Folder that a SOP list's paths start from; each list's own folder if `None`.
    pub root: Option<PathBuf>,
    /// Pretrained weights, over those of the settings.
    pub weights: Option<PathBuf>,
    /// Run directory to write.
    pub out: PathBuf,
    /// Seed of everything random.
    pub seed: u64,
    /// Whether to go on from the last checkpoint in the run directory, if there is one.
    pub resume: bool,
    /// Set to true from elsewhere, it ends the run after the step in progress, with a checkpoint.
    pub stop: Arc<AtomicBool>,
}

/// What came out of a run.
#[derive(Debug, Clone, Serialize)]
pub struct FitReport {
    /// Figures on the test set before training (pretrained weights, principal components).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Quality>,
    /// Figures on the test set of the weights that are kept.
    pub after: Quality,
    /// The epoch whose weights are kept, and by what it was chosen.
    pub best_epoch: usize,
    /// By what.
    pub selected_on: SelectOn,
    /// One record per epoch.
    pub epochs: Vec<EpochRecord>,
    /// Wall time of the training steps in seconds.
    pub train_seconds: f64,
    /// Training images.
    pub images: usize,
    /// Training classes.
    pub classes: usize,
    /// Training images that could not be decoded and were left out.
    pub skipped: Vec<PathBuf>,
    /// The seed.
    pub seed: u64,
}

/// Runs a training: reads and checks the data, builds the factorised network with its embedding layer started from principal
/// components, trains, chooses the best epoch, judges it, and writes the run directory.
///
/// # Errors
/// Any [`TrainError`]; the run directory then holds the last checkpoint written.
pub fn fit(options: &FitOptions) -> Result<FitReport, TrainError> {
    let config = &options.config;
    let device = config.run.device()?;
    let checkpoints = CheckpointDir::new(options.out.join("checkpoints"), config.run.keep_checkpoints);
    let found = if options.resume { checkpoints.load_newest()? } else { None };
    if !options.resume && checkpoints.newest().is_some() {
        return Err(TrainError::RunExists { out: options.out.clone() });
    }
    if let Some(checkpoint) = &found {
        refuse_other_settings(options, checkpoint)?;
    }
    let splits = read_splits(&config.data, &options.data, options.root.as_deref())?;
    let (train, selection) = split_off_selection(config, &splits, options.seed)?;
    warn_about_single_images(&train)?;
    let test = &splits.test;

    let mut run = start(options, found.as_ref(), train, selection, checkpoints, device)?;
    eprintln!(
        "{}: {} images of {} classes, test {} images of {} classes, {} sub-blocks, seed {}, on {}",
        config.name,
        run.train.images.len(),
        run.train.classes,
        test.gallery.images.len(),
        test.gallery.classes,
        config.model.sub_blocks,
        options.seed,
        device_name(device)
    );
    if let Some(checkpoint) = &found {
        run.restore(checkpoint)?;
        eprintln!(
            "going on after step {} (epoch {}, batch {})",
            run.state.step, run.state.epoch, run.state.batch
        );
    } else {
        // Whatever an earlier attempt logged before its first checkpoint.
        run.log.rewind(0)?;
        if config.run.evaluate_before {
            let quality = judge_run(&run, test, true, "evaluate before")?.0;
            eprintln!("before: {}", quality.one_line());
            run.state.before = Some(quality);
        }
    }
    run.train()?;
    run.take_best()?;
    let (after, embedded) = judge_run(&run, test, true, "evaluate after")?;
    eprintln!("after:  {}", after.one_line());
    let report = report(options, &run, after);
    run_dir::write(options, &run, test, &embedded, &report)?;
    Ok(report)
}

fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => format!("the CPU ({} threads)", tch::get_num_threads()),
        Device::Cuda(index) => format!("CUDA device {index}"),
        other => format!("{other:?}"),
    }
}

/// The images that train, and what the best epoch is chosen on.
fn split_off_selection(
    config: &TrainConfig,
    splits: &Splits,
    seed: u64,
) -> Result<(Arc<Dataset>, Option<TestSet>), TrainError> {
    let train = &splits.train;
    Ok(match config.run.select_on {
        SelectOn::Last => (Arc::new(train.clone()), None),
        SelectOn::Test => {
            eprintln!(
                "warning: the best epoch is chosen on the test set, as the official code does; its figures are too good"
            );
            (Arc::new(train.clone()), Some(splits.test.clone()))
        }
        SelectOn::Validation => {
            let share = config.data.validation_share;
            let (rest, held) = if splits.test.has_training_classes {
                train.split_images(share, seed)?
            } else {
                train.split_classes(share, seed)?
            };
            eprintln!(
                "validation: {} images{} of the training set are held back to choose the best epoch by",
                held.images.len(),
                if splits.test.has_training_classes {
                    String::new()
                } else {
                    format!(" of {} classes", held.classes)
                }
            );
            let has_training_classes = splits.test.has_training_classes;
            (Arc::new(rest), Some(TestSet { gallery: held, queries: None, has_training_classes }))
        }
    })
}

fn warn_about_single_images(train: &Dataset) -> Result<(), TrainError> {
    let single = train.check_trainable()?;
    if single > 0 {
        eprintln!(
            "warning: {single} of {} training classes have a single image; they only show what is different",
            train.classes
        );
    }
    Ok(())
}

/// A run before its first step, or the frame for `found` to be restored into.
fn start<'a>(
    options: &'a FitOptions,
    found: Option<&Checkpoint>,
    train: Arc<Dataset>,
    selection: Option<TestSet>,
    checkpoints: CheckpointDir,
    device: Device,
) -> Result<Run<'a>, TrainError> {
    let config = &options.config;
    tch::manual_seed(options.seed as i64);
    let (network, scale, weights_sha256, pretrained) = match found {
        Some(checkpoint) => {
            let resolved = resolve(config, &checkpoint.network)?;
            let architecture = &checkpoint.header.architecture;
            let network =
                build(architecture, &checkpoint.network, &network_options(config, options.seed), device)?;
            // The loss's own tensors are restored, whatever they start from.
            (network, resolved.scale, checkpoint.header.state.weights_sha256.clone(), TensorMap::new())
        }
        None => {
            let file = weights_file(options.weights.as_deref(), &config.model)?;
            let weights = load_weights(&file)?;
            let resolved = resolve(config, &weights)?;
            let network = build_pretrained(config, &resolved, weights.clone(), &train, options.seed, device)?;
            (network, resolved.scale, sha256_file(&file)?, weights)
        }
    };
    let mixed = config.run.precision == Precision::Mixed;
    let objective =
        Objective::new(&config.loss, &network.architecture(), &pretrained, train.classes, mixed, device);
    let optimizer = make_optimizer(config, network.as_ref(), &objective);
    let ema =
        (config.optimizer.ema_decay > 0.0).then(|| Ema::new(network.params(), config.optimizer.ema_decay));
    let mut recall_at = if config.run.recall_at.is_empty() {
        config.data.layout.recall_at().to_vec()
    } else {
        config.run.recall_at.clone()
    };
    // The best epoch is chosen by it.
    if !recall_at.contains(&1) {
        recall_at.insert(0, 1);
    }
    let state = RunState {
        seed: options.seed,
        epoch: 1,
        batch: 0,
        step: 0,
        sums: Default::default(),
        records: Vec::new(),
        best: None,
        before: None,
        loss_scale: if mixed { LossScale::dynamic() } else { LossScale::none() },
        optimizer_steps: Default::default(),
        skipped: Default::default(),
        weights_sha256,
    };
    Ok(Run {
        config,
        device,
        transform: eval_transform(&config.data, scale),
        network,
        objective,
        optimizer,
        ema,
        train,
        selection,
        recall_at,
        checkpoints,
        log: RunLog::open(&options.out)?,
        stop: Arc::clone(&options.stop),
        state,
    })
}

/// Going on with other settings would be neither of the two runs.
fn refuse_other_settings(options: &FitOptions, checkpoint: &Checkpoint) -> Result<(), TrainError> {
    let (now, then) = (options.config.to_toml()?, &checkpoint.header.config);
    let difference = now.lines().zip(then.lines()).find(|(now, then)| now != then);
    let reason = match difference {
        Some((now, then)) => format!("`{then}` is now `{now}`"),
        None if now != *then => "there are more or fewer settings".to_owned(),
        None if checkpoint.header.state.seed != options.seed => {
            format!("seed {} is now {}", checkpoint.header.state.seed, options.seed)
        }
        None => return Ok(()),
    };
    Err(TrainError::OtherSettings { out: options.out.clone(), reason })
}

/// Judges the network of a run with all sub-blocks.
fn judge_run(
    run: &Run<'_>,
    test: &TestSet,
    with_clusters: bool,
    label: &str,
) -> Result<(Quality, EmbeddedTest), TrainError> {
    let options = EvalOptions {
        transform: &run.transform,
        on_bad_image: run.config.data.on_bad_image,
        device: run.device,
        effort: Effort::All,
    };
    judge(run.network.as_ref(), test, options, Some(&run.objective), &run.recall_at, with_clusters, label)
}

fn report(options: &FitOptions, run: &Run<'_>, after: Quality) -> FitReport {
    let epochs = run.state.records.clone();
    FitReport {
        before: run.state.before.clone(),
        after,
        best_epoch: run.state.best.map_or(options.config.optimizer.epochs, |best| best.epoch),
        selected_on: options.config.run.select_on,
        train_seconds: epochs.iter().map(|epoch| epoch.seconds).sum(),
        epochs,
        images: run.train.images.len(),
        classes: run.train.classes,
        skipped: run.state.skipped.iter().map(|&image| run.train.images[image].clone()).collect(),
        seed: options.seed,
    }
}
