//! A model and its index, which are only ever exchanged together.

use std::sync::Arc;

use dfml_index::VectorIndex;
use dfml_models::{Manifest, Transform};

use super::models::Active;
use crate::{
    engine::{BatchOptions, Batcher, Engine, EngineError, ProviderReport},
    metrics::Metrics,
};

/// A model and the index of vectors that this very model made. The two are only ever exchanged together.
pub struct Backend {
    /// What the model is.
    pub manifest: Manifest,
    /// What it runs on.
    pub provider: ProviderReport,
    /// The model.
    pub engine: Arc<Engine>,
    /// The model, behind its queue.
    pub batcher: Batcher,
    /// The catalogue's vectors.
    pub index: Arc<dyn VectorIndex>,
    /// Where both lie, to be written down when they take over.
    pub active: Option<Active>,
}

impl Backend {
    /// A model behind a queue, and its index.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn new(
        engine: Arc<Engine>,
        batch: BatchOptions,
        metrics: Arc<Metrics>,
        index: Arc<dyn VectorIndex>,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            manifest: engine.manifest().clone(),
            provider: engine.provider().clone(),
            batcher: Batcher::start(Arc::clone(&engine), batch, metrics)?,
            engine,
            index,
            active: None,
        })
    }

    /// The transform that the model wants its images to go through.
    pub fn transform(&self) -> &Transform {
        &self.manifest.transform
    }

    /// The model's name and the beginning of its fingerprint.
    pub fn label(&self) -> String {
        const DIGITS: usize = 12;
        let fingerprint = self.manifest.fingerprint();
        format!("{}@{}", self.manifest.name, fingerprint.get(..DIGITS).unwrap_or(&fingerprint))
    }
}
