//! Training of Deep Factorized Metric Learning (Wang et al., CVPR 2023) on libtorch.
//!
//! A pretrained network is cut into sub-blocks ([`nn`]), trained with Proxy-Anchor on its full and its routed stream
//! ([`loss`], [`trainer`]) on labelled images ([`data`]), and written as a model directory that `dfml serve` loads.

pub mod config;
pub mod data;
mod error;
pub mod loss;
pub mod nn;
pub mod progress;
pub mod report;
pub mod trainer;

pub use error::TrainError;
