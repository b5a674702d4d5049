//! The training configuration: TOML files in `configs/train/`, every key with a default but the data lists.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// A training run's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Name of the model that comes out.
    pub name: String,
    /// Which images, and how they are cropped.
    pub data: DataConfig,
    /// Which network.
    #[serde(default)]
    pub model: ModelConfig,
    /// The loss and its weights.
    #[serde(default)]
    pub loss: LossConfig,
    /// Optimiser and schedule.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
}

/// Which images are trained on and evaluated, and how they are cropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Training list in SOP layout, relative to the data folder.
    pub train: String,
    /// Evaluation list of other classes, relative to the data folder.
    pub test: String,
    /// Side of the square network input, in pixels.
    #[serde(default = "defaults::image_size")]
    pub image_size: u32,
    /// Short side that evaluation images are resized to before the centre crop, in pixels.
    #[serde(default = "defaults::resize_short")]
    pub resize_short: u32,
    /// Images per step.
    #[serde(default = "defaults::batch_size")]
    pub batch_size: usize,
    /// Images of one class in a batch; 0 draws images at random.
    #[serde(default)]
    pub images_per_class: usize,
    /// Smallest share of the image's area that a random crop keeps, (0, 1].
    #[serde(default = "defaults::min_crop_area")]
    pub min_crop_area: f64,
    /// Largest relative change of brightness and contrast, [0, 1); 0 leaves colours alone.
    #[serde(default)]
    pub color_jitter: f64,
}

/// Which network is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Sub-blocks per block (K).
    pub sub_blocks: usize,
    /// Dimensions of the embedding.
    pub embedding_dim: usize,
    /// The stem and this many blocks stay as pretrained, shared by both streams.
    pub frozen_blocks: usize,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self { sub_blocks: 3, embedding_dim: 384, frozen_blocks: 0 }
    }
}

/// The loss `PA(full) + routed * PA(routed) + distill * (0.1 * sum ||routed - full|| + gaps)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Proxy-Anchor's margin.
    pub margin: f64,
    /// Proxy-Anchor's scale.
    pub alpha: f64,
    /// Weight of the routed stream's Proxy-Anchor loss; 0 with `distill` 0 trains plain Proxy-Anchor.
    pub routed: f64,
    /// Weight of the distillation terms.
    pub distill: f64,
    /// Weight of the blocks' gaps inside the distillation terms.
    pub gap: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { margin: 0.1, alpha: 32.0, routed: 0.5, distill: 0.5, gap: 2e-3 / 12.0 }
    }
}

impl LossConfig {
    /// Whether the routed stream is needed at all.
    pub fn is_routed(&self) -> bool {
        self.routed > 0.0 || self.distill > 0.0
    }
}

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Falls by a cosine to zero at the last step.
    Cosine,
    /// Multiplied by `gamma` every `epochs` epochs (torch's StepLR).
    Step {
        /// Epochs between two falls.
        epochs: usize,
        /// Factor per fall.
        gamma: f64,
    },
}

/// AdamW and its schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Passes over the training list.
    pub epochs: usize,
    /// Learning rate of the pretrained weights.
    pub learning_rate: f64,
    /// Factor on it for the proxies.
    pub proxy_factor: f64,
    /// Factor on it for the embedding layer.
    pub embedding_factor: f64,
    /// Factor on it for the routers.
    pub router_factor: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradient values are clipped to ± this.
    pub clip_value: f64,
    /// First epochs in which only the proxies are trained (fractions allowed).
    pub warm_epochs: f64,
    /// How the learning rate falls.
    pub schedule: Schedule,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            epochs: 60,
            learning_rate: 1e-4,
            proxy_factor: 100.0,
            embedding_factor: 1.0,
            router_factor: 1.0,
            weight_decay: 1e-4,
            clip_value: 10.0,
            warm_epochs: 1.0,
            schedule: Schedule::Step { epochs: 10, gamma: 0.5 },
        }
    }
}

mod defaults {
    pub(super) fn image_size() -> u32 {
        224
    }
    pub(super) fn resize_short() -> u32 {
        256
    }
    pub(super) fn batch_size() -> usize {
        120
    }
    pub(super) fn min_crop_area() -> f64 {
        0.08
    }
}

impl TrainConfig {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`TrainError::Config`] with the line and key for unknown keys, wrong types and values out of range.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let error = |reason: String| TrainError::Config { path: path.to_owned(), reason };
        let text = fs_err::read_to_string(path)?;
        let config: Self = toml::from_str(&text).map_err(|e| error(e.to_string()))?;
        config.check().map_err(error)?;
        Ok(config)
    }

    /// Checks values against each other.
    ///
    /// # Errors
    /// A sentence naming the key.
    pub fn check(&self) -> Result<(), String> {
        let (data, optimizer) = (&self.data, &self.optimizer);
        let positive = |name: &str, value: usize| {
            if value == 0 { Err(format!("{name} must be at least 1")) } else { Ok(()) }
        };
        positive("data.batch_size", data.batch_size)?;
        positive("data.image_size", data.image_size as usize)?;
        positive("model.sub_blocks", self.model.sub_blocks)?;
        positive("model.embedding_dim", self.model.embedding_dim)?;
        positive("optimizer.epochs", optimizer.epochs)?;
        if data.resize_short < data.image_size {
            return Err(format!(
                "data.resize_short ({}) is smaller than data.image_size ({})",
                data.resize_short, data.image_size
            ));
        }
        if !(data.min_crop_area > 0.0 && data.min_crop_area <= 1.0) {
            return Err(format!("data.min_crop_area is {}, not in (0, 1]", data.min_crop_area));
        }
        if !(0.0..1.0).contains(&data.color_jitter) {
            return Err(format!("data.color_jitter is {}, not in [0, 1)", data.color_jitter));
        }
        if !(optimizer.learning_rate > 0.0 && optimizer.learning_rate.is_finite()) {
            return Err(format!("optimizer.learning_rate is {}, not above 0", optimizer.learning_rate));
        }
        if data.images_per_class > 0 && data.batch_size % data.images_per_class != 0 {
            return Err(format!(
                "data.batch_size ({}) is not a multiple of data.images_per_class ({})",
                data.batch_size, data.images_per_class
            ));
        }
        Ok(())
    }
}
