//! The catalogue that a command works on: a folder, or a collection on an engine, as the settings say.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use dfml_index::{EmbeddedIndex, OpenOptions, VectorIndex};
use dfml_models::Manifest;
use dfml_qdrant::QdrantIndex;
use dfml_serve::settings::{IndexBackend, Settings};

/// Which catalogue.
#[derive(clap::Args, Debug)]
pub(super) struct CatalogueArgs {
    /// Store directory, as `dfml index import` makes it; needed unless the setting index.backend is qdrant.
    #[arg(long, value_name = "DIR")]
    pub(super) catalogue: Option<PathBuf>,
}

impl CatalogueArgs {
    /// Opens the catalogue of this model; with `create` one that is not there is made.
    pub(super) fn open(
        &self,
        settings: &Settings,
        manifest: &Manifest,
        create: bool,
    ) -> anyhow::Result<Arc<dyn VectorIndex>> {
        let options = OpenOptions {
            create,
            tuning: settings.index.tuning.clone(),
            ..OpenOptions::new(manifest.embedding_dim, manifest.fingerprint())
        };
        Ok(match settings.index.backend {
            IndexBackend::Embedded => {
                let folder = self.folder()?;
                let index = EmbeddedIndex::open(folder, options);
                Arc::new(index.with_context(|| format!("store {}", folder.display()))?)
            }
            IndexBackend::Qdrant => Arc::new(QdrantIndex::open(&settings.index.qdrant, &options)?),
        })
    }

    /// The store directory of an embedded catalogue.
    pub(super) fn folder(&self) -> anyhow::Result<&Path> {
        match &self.catalogue {
            Some(folder) => Ok(folder),
            None => bail!("name the store directory with --catalogue, or set index.backend to qdrant"),
        }
    }

    /// Its name for people.
    pub(super) fn name(&self, settings: &Settings) -> String {
        match (settings.index.backend, &self.catalogue) {
            (IndexBackend::Embedded, Some(folder)) => folder.display().to_string(),
            (IndexBackend::Embedded, None) => String::new(),
            (IndexBackend::Qdrant, _) => settings.index.qdrant.place(),
        }
    }
}
