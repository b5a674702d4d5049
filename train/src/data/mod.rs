//! Images and labels: data sets and their layouts, augmentation, sampling, and the loader that runs ahead of training.

mod augment;
mod dataset;
mod layout;
mod loader;
mod rand_augment;
mod sampler;

pub use augment::{Augment, train_crop};
pub use dataset::Dataset;
pub use layout::{Layout, Splits, TestSet, read_splits};
pub use loader::{Batch, EvalBatch, LoadOptions, Loader, eval_pixels};
pub use sampler::epoch_batches;
