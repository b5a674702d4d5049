//! The catalogue that a command works on: a folder, or a collection on an engine, as the settings say.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use dfml_index::{EmbeddedIndex, ItemStore, OpenOptions, StoreWriter, VectorIndex};
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
    /// Opens the catalogue of this model.
    pub(super) fn open(
        &self,
        settings: &Settings,
        manifest: &Manifest,
    ) -> anyhow::Result<Arc<dyn VectorIndex>> {
        let options = options(settings, manifest);
        Ok(match settings.index.backend {
            IndexBackend::Embedded => {
                let folder = self.folder()?;
                let index = EmbeddedIndex::open(folder, options);
                Arc::new(index.with_context(|| format!("store {}", folder.display()))?)
            }
            IndexBackend::Qdrant => Arc::new(QdrantIndex::open(&settings.index.qdrant, &options)?),
        })
    }

    /// Opens the catalogue of this model, or makes it, to put items into it.
    pub(super) fn open_to_fill(
        &self,
        settings: &Settings,
        manifest: &Manifest,
    ) -> anyhow::Result<Box<dyn ItemStore>> {
        let options = OpenOptions { create: true, ..options(settings, manifest) };
        Ok(match settings.index.backend {
            IndexBackend::Embedded => {
                let folder = self.folder()?;
                let store = StoreWriter::open(folder, &options);
                Box::new(store.with_context(|| format!("store {}", folder.display()))?)
            }
            IndexBackend::Qdrant => Box::new(QdrantIndex::open(&settings.index.qdrant, &options)?),
        })
    }

    /// Makes what was put into the catalogue, `items` of them now, ready to be searched.
    pub(super) fn settle(
        &self,
        settings: &Settings,
        manifest: &Manifest,
        items: usize,
    ) -> anyhow::Result<()> {
        match settings.index.backend {
            IndexBackend::Embedded => settle(self.folder()?, options(settings, manifest), items),
            IndexBackend::Qdrant => Ok(self.open(settings, manifest)?.flush()?),
        }
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

/// Builds the search graph of a store that was filled, if it has so many items that it is searched by one.
pub(super) fn settle(folder: &Path, options: OpenOptions, items: usize) -> anyhow::Result<()> {
    if items > options.tuning.exact_up_to {
        EmbeddedIndex::open(folder, options)?.settle();
    }
    Ok(())
}

fn options(settings: &Settings, manifest: &Manifest) -> OpenOptions {
    OpenOptions {
        tuning: settings.index.tuning.clone(),
        ..OpenOptions::new(manifest.embedding_dim, manifest.fingerprint())
    }
}
