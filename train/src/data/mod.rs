//! Images and labels: the data set, augmentation, sampling, and the loader that runs ahead of training.

mod augment;
mod dataset;
mod loader;
mod sampler;

pub use augment::{Augment, train_crop};
pub use dataset::Dataset;
pub use loader::{Batch, Loader, eval_pixels};
pub use sampler::epoch_batches;
