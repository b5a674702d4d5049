//! Where a run stands, apart from its tensors: what a checkpoint keeps beside them.

use std::collections::BTreeSet;

use dfml_index::metrics::Retrieval;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::evaluate::Quality;
use super::loss_scale::LossScale;
use super::objective::StepLoss;
use super::optimizer::StepCounts;

/// Means over one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// 1-based.
    pub epoch: usize,
    /// Optimiser steps done after it, over all epochs.
    pub step: usize,
    /// Mean total loss.
    pub loss: f64,
    /// Mean loss of the full stream.
    pub full: f64,
    /// Mean loss of the routed stream.
    pub routed: f64,
    /// Mean distillation term.
    pub distill: f64,
    /// Wall time in seconds, without evaluation.
    pub seconds: f64,
    /// Share of that time in which training waited for images.
    pub waiting: f64,
    /// Training images per second.
    pub images_per_second: f64,
    /// Share of images (or tokens) per sub-block, averaged over routers.
    pub usage: Vec<f64>,
    /// The same for each router in network order.
    pub usage_by_router: Vec<Vec<f64>>,
    /// Retrieval by which the best epoch is chosen, if the epoch was judged.
    pub selection: Option<Retrieval>,
}

/// Running sums of one epoch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct EpochSums {
    batches: usize,
    images: usize,
    losses: [f64; 4],
    /// Counts per router and sub-block.
    routes: Vec<Vec<f64>>,
    pub(super) seconds: f64,
    pub(super) waiting: f64,
}

impl EpochSums {
    pub(super) fn add(&mut self, total: f64, loss: &StepLoss, images: usize, sub_blocks: usize) {
        self.batches += 1;
        self.images += images;
        for (sum, value) in self.losses.iter_mut().zip([total, loss.full, loss.routed, loss.distill]) {
            *sum += value;
        }
        self.routes.resize(loss.routes.len().max(self.routes.len()), vec![0.0; sub_blocks]);
        for (counts, route) in self.routes.iter_mut().zip(&loss.routes) {
            for (count, more) in counts.iter_mut().zip(counts_of(route, sub_blocks)) {
                *count += more;
            }
        }
    }

    pub(super) fn record(self, epoch: usize, step: usize, sub_blocks: usize) -> EpochRecord {
        let n = self.batches.max(1) as f64;
        let [loss, full, routed, distill] = self.losses.map(|sum| sum / n);
        let share = |counts: &Vec<f64>| {
            let total = counts.iter().sum::<f64>().max(1.0);
            counts.iter().map(|count| count / total).collect::<Vec<f64>>()
        };
        let usage_by_router: Vec<Vec<f64>> = self.routes.iter().map(share).collect();
        let mean = |k: usize| {
            usage_by_router.iter().map(|usage| usage[k]).sum::<f64>() / usage_by_router.len().max(1) as f64
        };
        let usage = if usage_by_router.is_empty() { Vec::new() } else { (0..sub_blocks).map(mean).collect() };
        EpochRecord {
            epoch,
            step,
            loss,
            full,
            routed,
            distill,
            seconds: self.seconds,
            waiting: self.waiting / self.seconds.max(1e-9),
            images_per_second: self.images as f64 / self.seconds.max(1e-9),
            usage,
            usage_by_router,
            selection: None,
        }
    }
}

/// How often each sub-block was chosen.
fn counts_of(route: &Tensor, sub_blocks: usize) -> Vec<f64> {
    let counts = route.flatten(0, -1).bincount(None::<&Tensor>, sub_blocks as i64);
    (0..sub_blocks as i64).map(|k| counts.int64_value(&[k]) as f64).collect()
}

/// The epoch whose weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// 1-based.
    pub epoch: usize,
    /// What it was chosen by: the larger, the better; the second figure decides between equals.
    pub score: (f64, f64),
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RunState {
    /// Seed of everything random: order, crops and what losses draw follow from it, the epoch and the step, so that there
    /// is no other generator's state to keep.
    pub(super) seed: u64,
    /// Epoch in progress, 1-based; one more than there are when training is done.
    pub(super) epoch: usize,
    /// Batches of it that are done.
    pub(super) batch: usize,
    /// Optimiser steps done.
    pub(super) step: usize,
    pub(super) sums: EpochSums,
    pub(super) records: Vec<EpochRecord>,
    pub(super) best: Option<Best>,
    /// Retrieval on the test set before training.
    pub(super) before: Option<Quality>,
    pub(super) loss_scale: LossScale,
    pub(super) optimizer_steps: StepCounts,
    /// Training images that could not be decoded and were left out.
    pub(super) skipped: BTreeSet<usize>,
    /// SHA-256 of the pretrained weights.
    pub(super) weights_sha256: String,
}
