//! The training loop: batches to steps, epochs, checkpoints, the choice of the best.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dfml_models::Transform;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use super::checkpoint::{Checkpoint, CheckpointDir, Header};
use super::ema::{params_are_finite, restore_params};
use super::evaluate::{EvalOptions, judge};
use super::optimizer::ParamGroup;
use super::state::{Best, RunState};
use super::{Ema, Objective, Optimizer, learning_rate};
use crate::config::TrainConfig;
use crate::data::{Augment, Batch, Dataset, LoadOptions, Loader, TestSet, epoch_batches};
use crate::error::TrainError;
use crate::nn::params::{Group, to_host};
use crate::nn::{Effort, Network};
use crate::progress::Progress;
use crate::report::{RunLog, StepFigures};

/// Index of the parameter group of the loss's own tensors, which train from the first step on.
const PROXIES: usize = 0;

/// A run in progress.
pub(super) struct Run<'a> {
    pub(super) config: &'a TrainConfig,
    pub(super) device: Device,
    pub(super) transform: Transform,
    pub(super) network: Box<dyn Network>,
    pub(super) objective: Objective,
    pub(super) optimizer: Optimizer,
    pub(super) ema: Option<Ema>,
    pub(super) train: Arc<Dataset>,
    /// What the best epoch is chosen on; `None` keeps the last.
    pub(super) selection: Option<TestSet>,
    pub(super) recall_at: Vec<u32>,
    pub(super) checkpoints: CheckpointDir,
    pub(super) log: RunLog,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) state: RunState,
}

/// The optimiser of a network and the loss's own tensors.
pub(super) fn make_optimizer(
    config: &TrainConfig,
    network: &dyn Network,
    objective: &Objective,
) -> Optimizer {
    let settings = &config.optimizer;
    let of = |group: Group| -> Vec<(String, Tensor)> {
        let params = network.params().trainable().filter(|(_, param)| param.group == group);
        params.map(|(name, param)| (format!("network.{name}"), param.tensor.shallow_clone())).collect()
    };
    let own = objective.parameters().into_iter();
    let own = own.map(|(name, tensor)| (format!("loss.{name}"), tensor.shallow_clone())).collect();
    let groups = vec![
        ParamGroup { factor: settings.proxy_factor, tensors: own },
        ParamGroup { factor: 1.0, tensors: of(Group::Backbone) },
        ParamGroup { factor: settings.embedding_factor, tensors: of(Group::Embedding) },
        ParamGroup { factor: settings.router_factor, tensors: of(Group::Router) },
    ];
    Optimizer::new(groups, settings)
}

impl Run<'_> {
    /// Trains from where the state stands to the last epoch.
    pub(super) fn train(&mut self) -> Result<(), TrainError> {
        while self.state.epoch <= self.config.optimizer.epochs {
            self.epoch()?;
        }
        Ok(())
    }

    fn epoch(&mut self) -> Result<(), TrainError> {
        let (data, settings) = (&self.config.data, &self.config.optimizer);
        let epoch = self.state.epoch;
        let batches =
            epoch_batches(&self.train.labels, data.batch_size, data.images_per_class, self.state.seed, epoch);
        let per_epoch = batches.len();
        let images: usize = batches[self.state.batch..].iter().map(Vec::len).sum();
        let options = LoadOptions {
            augment: Augment::new(data),
            on_bad_image: data.on_bad_image,
            seed: self.state.seed,
            epoch,
        };
        let mut loader =
            Loader::start(Arc::clone(&self.train), batches[self.state.batch..].to_vec(), options);
        let progress = Progress::new(&format!("epoch {epoch}/{}", settings.epochs), images as u64);
        while self.state.batch < per_epoch {
            let started = Instant::now();
            let group = settings.accumulate.min(per_epoch - self.state.batch);
            let mut waiting = 0.0;
            let mut taken = Vec::with_capacity(group);
            for _ in 0..group {
                let waited = Instant::now();
                // The loader ends early only after an error, which it hands over first.
                let Some(batch) = loader.next() else { break };
                taken.push(batch?);
                waiting += waited.elapsed().as_secs_f64();
            }
            let loss = self.step(&taken, per_epoch)?;
            self.state.batch += group;
            self.state.sums.waiting += waiting;
            self.state.sums.seconds += started.elapsed().as_secs_f64();
            let count: usize = taken.iter().map(|batch| batch.labels.len() + batch.skipped.len()).sum();
            progress.add_with(count as u64, &format!("loss {loss:.3}"));
            if self.stop.load(Ordering::Relaxed) {
                return Err(TrainError::Interrupted { checkpoint: self.save()? });
            }
            let every = self.config.run.checkpoint_steps;
            if every > 0 && self.state.step.is_multiple_of(every) && self.state.batch < per_epoch {
                self.save()?;
            }
        }
        progress.finish();
        self.finish_epoch()
    }

    /// One optimiser step on one or several batches; the mean loss.
    fn step(&mut self, batches: &[Batch], per_epoch: usize) -> Result<f64, TrainError> {
        let settings = &self.config.optimizer;
        let step = self.state.step;
        let steps_per_epoch = per_epoch.div_ceil(settings.accumulate);
        let total = settings.epochs * steps_per_epoch;
        // Whatever draws numbers in this step draws the same after a restart.
        let mut rng = ChaCha8Rng::seed_from_u64(self.state.seed);
        rng.set_stream(1 << 32 | step as u64);
        tch::manual_seed(self.state.seed.wrapping_add(step as u64 + 1) as i64);

        self.optimizer.zero_grad();
        let scale = self.state.loss_scale.factor();
        let sub_blocks = self.config.model.sub_blocks;
        let (mut mean, mut terms) = (0.0, [0.0; 3]);
        for batch in batches {
            self.state.skipped.extend(&batch.skipped);
            if batch.labels.len() < 2 {
                continue;
            }
            let pixels = batch.to_pixels(&self.transform, self.device);
            let labels = batch.to_labels(self.device);
            let loss = self.objective.loss(self.network.as_ref(), &pixels, &labels, &mut rng);
            let value = loss.total.double_value(&[]);
            if !value.is_finite() {
                return Err(self.not_finite(value, batches));
            }
            (&loss.total * (scale / batches.len() as f64)).backward();
            self.state.sums.add(value, &loss, batch.labels.len(), sub_blocks);
            mean += value / batches.len() as f64;
            for (sum, term) in terms.iter_mut().zip([loss.full, loss.routed, loss.distill]) {
                *sum += term / batches.len() as f64;
            }
        }
        let rate = settings.learning_rate * learning_rate(settings.schedule, step, total, steps_per_epoch);
        let warm = (step as f64) < settings.warm_epochs * steps_per_epoch as f64;
        let is_finite = !self.state.loss_scale.is_dynamic() || self.optimizer.gradients_are_finite();
        self.state.loss_scale.update(is_finite);
        if is_finite {
            self.optimizer.step(rate, 1.0 / scale, |group| !warm || group == PROXIES);
            self.ema.iter_mut().for_each(Ema::update);
        }
        self.state.step += 1;
        let [full, routed, distill] = terms;
        self.log.step(StepFigures {
            epoch: self.state.epoch,
            step: self.state.step,
            loss: mean,
            full,
            routed,
            distill,
            learning_rate: rate,
        })?;
        Ok(mean)
    }

    fn not_finite(&self, value: f64, batches: &[Batch]) -> TrainError {
        let images = batches.iter().flat_map(|batch| &batch.images);
        TrainError::NotFinite {
            value,
            epoch: self.state.epoch,
            step: self.state.step + 1,
            files: images.map(|&image| self.train.images[image].display().to_string()).collect(),
            checkpoint: self.checkpoints.newest(),
        }
    }

    /// Judges the epoch if it is its turn, keeps it if it is the best, and writes a checkpoint.
    fn finish_epoch(&mut self) -> Result<(), TrainError> {
        let epoch = self.state.epoch;
        let sums = std::mem::take(&mut self.state.sums);
        let mut record = sums.record(epoch, self.state.step, self.config.model.sub_blocks);
        eprintln!(
            "epoch {epoch}: loss {:.3} (full {:.3}, routed {:.3}, distillation {:.3}), {:.1} images/s, {:.0} % of the time waiting \
             for images, sub-block use {:.2?}",
            record.loss,
            record.full,
            record.routed,
            record.distill,
            record.images_per_second,
            record.waiting * 100.0,
            record.usage
        );
        let (epochs, every) = (self.config.optimizer.epochs, self.config.run.evaluate_every);
        let mut is_best = false;
        if let Some(selection) =
            self.selection.as_ref().filter(|_| epoch.is_multiple_of(every) || epoch == epochs)
        {
            let options = EvalOptions {
                transform: &self.transform,
                on_bad_image: self.config.data.on_bad_image,
                device: self.device,
                effort: Effort::All,
            };
            self.ema.iter_mut().for_each(Ema::swap);
            let label = format!("choice after epoch {epoch}");
            let judged = judge(
                self.network.as_ref(),
                selection,
                options,
                Some(&self.objective),
                &self.recall_at,
                false,
                &label,
            );
            self.ema.iter_mut().for_each(Ema::swap);
            let (quality, _) = judged?;
            eprintln!("{label}: {}", quality.one_line());
            is_best = self.state.best.is_none_or(|best| quality.score() > best.score);
            if is_best {
                self.state.best = Some(Best { epoch, score: quality.score() });
            }
            record.selection = Some(quality.retrieval);
        }
        self.log.epoch(&record)?;
        self.state.records.push(record);
        self.state.epoch += 1;
        self.state.batch = 0;
        if is_best {
            self.refuse_non_finite()?;
            self.checkpoints.save_best(&self.checkpoint()?)?;
        }
        self.save().map(|_| ())
    }

    /// A checkpoint that goes on with NaN is worse than none.
    fn refuse_non_finite(&self) -> Result<(), TrainError> {
        if params_are_finite(self.network.params()) { Ok(()) } else { Err(self.not_finite(f64::NAN, &[])) }
    }

    fn save(&self) -> Result<std::path::PathBuf, TrainError> {
        self.refuse_non_finite()?;
        self.checkpoints.save(&self.checkpoint()?)
    }

    fn checkpoint(&self) -> Result<Checkpoint, TrainError> {
        let (optimizer, steps) = self.optimizer.state();
        let mut state = self.state.clone();
        state.optimizer_steps = steps;
        let own = self.objective.parameters().into_iter();
        Ok(Checkpoint {
            network: self.network.params().to_host(),
            loss: own.map(|(name, tensor)| (name.to_owned(), to_host(tensor))).collect(),
            optimizer,
            ema: self.ema.as_ref().map(Ema::state).unwrap_or_default(),
            header: Header::new(self.network.architecture(), self.config.to_toml()?, state),
        })
    }

    /// Puts everything where a checkpoint left it.
    pub(super) fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        self.restore_weights(checkpoint)?;
        self.optimizer.restore(&checkpoint.optimizer, &checkpoint.header.state.optimizer_steps)?;
        self.state = checkpoint.header.state.clone();
        Ok(self.log.rewind(self.state.step)?)
    }

    /// Takes the weights of the best epoch, or leaves the last's; with a moving average, its.
    pub(super) fn take_best(&mut self) -> Result<(), TrainError> {
        if self.state.best.is_some() {
            let checkpoint = Checkpoint::load(&self.checkpoints.best())?;
            self.restore_weights(&checkpoint)?;
        }
        self.ema.iter_mut().for_each(Ema::swap);
        Ok(())
    }

    fn restore_weights(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        restore_params(self.network.params(), &checkpoint.network)?;
        self.objective.restore(&checkpoint.loss)?;
        self.ema.iter_mut().try_for_each(|ema| ema.restore(&checkpoint.ema))
    }
}
