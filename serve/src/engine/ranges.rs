//! What flows through a network: the range of values that each tensor takes on real images.

use dfml_models::{
    Manifest,
    onnx::{INPUT, Network, Ranges, VariantError},
};
use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use super::{EngineError, Library};

/// Watches a network while it computes images.
pub struct RangeObserver {
    session: Session,
    names: Vec<String>,
    ranges: Ranges,
    /// `[3, height, width]`
    shape: [usize; 3],
}

/// Why a network cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// ONNX Runtime.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The network.
    #[error(transparent)]
    Variant(#[from] VariantError),
}

impl RangeObserver {
    /// Opens `network`, which takes images as `manifest` says; `None` if it has no tensor whose range is wanted.
    ///
    /// # Errors
    /// [`ObserveError`] if ONNX Runtime refuses the network.
    pub fn open(
        network: &Network,
        manifest: &Manifest,
        library: &Library,
        threads: usize,
    ) -> Result<Option<Self>, ObserveError> {
        let (observed, names) = network.observed();
        if names.is_empty() {
            return Ok(None);
        }
        let file = tempfile::NamedTempFile::new().map_err(VariantError::Io)?;
        observed.write(file.path()).map_err(VariantError::Io)?;
        let open = || {
            Session::builder(library.environment())?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(threads)?
                .commit_from_file(file.path())
        };
        let session = open().map_err(|error: ort::Error| EngineError::Session {
            model: file.path().to_path_buf(),
            reason: error.to_string(),
        })?;
        let transform = &manifest.transform;
        let shape = [3, transform.crop_height as usize, transform.crop_width as usize];
        Ok(Some(Self { session, names, ranges: Ranges::new(), shape }))
    }

    /// Computes images, `[n, 3, height, width]` as the engine prepares them.
    ///
    /// # Errors
    /// [`EngineError::PixelCount`] and [`EngineError::Inference`].
    pub fn watch(&mut self, pixels: &[f32], n: usize) -> Result<(), EngineError> {
        let [channels, height, width] = self.shape;
        let expected = n * channels * height * width;
        if pixels.len() != expected {
            return Err(EngineError::PixelCount { images: n, expected, found: pixels.len() });
        }
        let inference = |error: ort::Error| EngineError::Inference { reason: error.to_string() };
        let input = TensorRef::from_array_view(([n, channels, height, width], pixels)).map_err(inference)?;
        let outputs = self.session.run(ort::inputs![INPUT => input]).map_err(inference)?;
        for name in &self.names {
            let number = |end: &str| {
                let missing =
                    || EngineError::Inference { reason: format!("there is no output {end}:{name}") };
                let output = outputs.get(format!("{end}:{name}").as_str()).ok_or_else(missing)?;
                let (_, values) = output.try_extract_tensor::<f32>().map_err(inference)?;
                values.first().copied().ok_or_else(missing)
            };
            let (low, high) = (number("min")?, number("max")?);
            let range = self.ranges.entry(name.clone()).or_insert((low, high));
            *range = (range.0.min(low), range.1.max(high));
        }
        Ok(())
    }

    /// The ranges of everything that was watched.
    pub fn into_ranges(self) -> Ranges {
        self.ranges
    }
}
