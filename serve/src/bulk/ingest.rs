//! A list of images into a store: embeds what is new or changed, leaves the rest alone.
//!
//! Each item carries a stamp of its file (size, modification time, SHA-256) in its metadata under [`STAMP_KEY`]. A file
//! whose size and time are those of its stamp is not opened; one with another time but the same contents is not embedded
//! again. So an interrupted run is resumed by running it again.

use std::{fs::Metadata, io, ops::ControlFlow, path::PathBuf, time::UNIX_EPOCH};

use dfml_index::{IndexError, Item, ItemStore};
use dfml_models::sha256_file;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{BulkError, BulkOptions, ImageEntry, ImageList, ItemError, ItemErrorKind, Products, embed_files};
use crate::engine::Engine;

/// Metadata key of an item's file stamp. Search results leave it out.
pub const STAMP_KEY: &str = "source";

/// How a list is ingested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestOptions {
    /// The parallel path.
    pub bulk: BulkOptions,
    /// Items written to the store at a time. What is written survives a crash.
    pub commit_every: usize,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self { bulk: BulkOptions::default(), commit_every: 256 }
    }
}

/// What became of one entry of the list.
#[derive(Debug)]
pub enum IngestEvent<'a> {
    /// The store has it already.
    Unchanged,
    /// The image is unchanged, but the product's metadata is new: stored without embedding again.
    Updated,
    /// Embedded.
    Embedded,
    /// Left out.
    Failed {
        /// The entry.
        entry: &'a ImageEntry,
        /// Why.
        error: &'a ItemError,
    },
}

/// Counts at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IngestSummary {
    /// Entries in the list.
    pub listed: usize,
    /// Items embedded and stored.
    pub embedded: usize,
    /// Items stored with new metadata only.
    pub updated: usize,
    /// Items that were stored already.
    pub unchanged: usize,
    /// Entries left out because of an error.
    pub failed: usize,
}

/// The run as a whole failed.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The store.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The engine.
    #[error(transparent)]
    Bulk(#[from] BulkError),
}

/// A list on its way into a store.
pub struct Ingest<'a, S: ItemStore + ?Sized> {
    /// Embeds.
    pub engine: &'a Engine,
    /// Receives the items.
    pub store: &'a S,
    /// The images.
    pub list: &'a ImageList,
    /// What is known about the products.
    pub products: &'a Products,
}

/// An entry that has to be embedded.
struct Pending<'a> {
    entry: &'a ImageEntry,
    stamp: Stamp,
}

/// Identifies a version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    /// Nanoseconds since 1970.
    modified_ns: u64,
    sha256: String,
}

impl Stamp {
    fn of_file(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        Self { bytes: metadata.len(), modified_ns, sha256: String::new() }
    }

    fn of_item(item: &Item) -> Option<Self> {
        Self::deserialize(item.metadata.get(STAMP_KEY)?).ok()
    }
}

impl<S: ItemStore + ?Sized> Ingest<'_, S> {
    /// Ingests the list. `on` is told of every entry; it breaks to stop early, and what is embedded by then is stored.
    ///
    /// # Errors
    /// [`IngestError`] if the store or the network fails. A single bad image is an [`IngestEvent::Failed`].
    pub fn run(
        &self,
        options: &IngestOptions,
        mut on: impl FnMut(IngestEvent<'_>) -> ControlFlow<()>,
    ) -> Result<IngestSummary, IngestError> {
        let mut summary = IngestSummary { listed: self.list.entries.len(), ..IngestSummary::default() };
        let mut batch = Batch { store: self.store, items: Vec::new(), size: options.commit_every.max(1) };
        let mut pending = Vec::new();
        for entry in &self.list.entries {
            let event = match self.plan(entry) {
                Ok(Plan::Embed(stamp)) => {
                    pending.push(Pending { entry, stamp });
                    continue;
                }
                Ok(Plan::Store(item)) => {
                    batch.push(item)?;
                    summary.updated += 1;
                    on(IngestEvent::Updated)
                }
                Ok(Plan::Nothing) => {
                    summary.unchanged += 1;
                    on(IngestEvent::Unchanged)
                }
                Err(PlanError::Index(error)) => return Err(error.into()),
                Err(PlanError::Item(error)) => {
                    summary.failed += 1;
                    on(IngestEvent::Failed { entry, error: &error })
                }
            };
            if event.is_break() {
                batch.flush()?;
                return Ok(summary);
            }
        }
        self.embed(&pending, options, &mut batch, &mut summary, &mut on)?;
        batch.flush()?;
        Ok(summary)
    }

    fn embed(
        &self,
        pending: &[Pending<'_>],
        options: &IngestOptions,
        batch: &mut Batch<'_, S>,
        summary: &mut IngestSummary,
        on: &mut impl FnMut(IngestEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), IngestError> {
        let paths: Vec<PathBuf> = pending.iter().map(|pending| self.path(pending.entry)).collect();
        let bulk = BulkOptions { digest: true, ..options.bulk };
        let mut stored = Ok(());
        embed_files(self.engine, &paths, &bulk, |position, result| {
            let Pending { entry, stamp } = &pending[position];
            match result {
                Ok(embedding) => {
                    let stamp = Stamp { sha256: embedding.sha256.unwrap_or_default(), ..stamp.clone() };
                    let item = self.item(entry, embedding.vector, &stamp);
                    stored = batch.push(item);
                    if stored.is_err() {
                        return ControlFlow::Break(());
                    }
                    summary.embedded += 1;
                    on(IngestEvent::Embedded)
                }
                Err(error) => {
                    summary.failed += 1;
                    on(IngestEvent::Failed { entry, error: &error })
                }
            }
        })?;
        Ok(stored?)
    }

    /// Decides what an entry needs, reading no more of its file than necessary.
    fn plan(&self, entry: &ImageEntry) -> Result<Plan, PlanError> {
        let path = self.path(entry);
        let item_error =
            |error: io::Error| ItemError { path: path.clone(), kind: ItemErrorKind::Read(error) };
        let mut stamp = Stamp::of_file(&std::fs::metadata(&path).map_err(item_error)?);
        let Some(known) = self.store.get(&entry.id)? else { return Ok(Plan::Embed(stamp)) };
        let Some(known_stamp) = Stamp::of_item(&known) else { return Ok(Plan::Embed(stamp)) };
        if known_stamp.bytes != stamp.bytes {
            return Ok(Plan::Embed(stamp));
        }
        if known_stamp.modified_ns != stamp.modified_ns
            && sha256_file(&path).map_err(item_error)? != known_stamp.sha256
        {
            return Ok(Plan::Embed(stamp));
        }
        stamp.sha256 = known_stamp.sha256;
        let item = self.item(entry, known.vector.clone(), &stamp);
        let same = item.metadata == known.metadata && item.product_id == known.product_id;
        Ok(if same { Plan::Nothing } else { Plan::Store(item) })
    }

    fn item(&self, entry: &ImageEntry, vector: Vec<f32>, stamp: &Stamp) -> Item {
        // What the file of products says goes before what the list says.
        let mut metadata: Map<String, Value> = self.products.metadata(&entry.product_id);
        for (key, value) in &entry.metadata {
            metadata.entry(key).or_insert_with(|| value.clone());
        }
        metadata.insert("path".to_owned(), entry.path.to_string_lossy().into());
        metadata.insert(STAMP_KEY.to_owned(), serde_json::json!(stamp));
        Item { id: entry.id.clone(), product_id: entry.product_id.clone(), vector, metadata }
    }

    fn path(&self, entry: &ImageEntry) -> PathBuf {
        self.list.root.join(&entry.path)
    }
}

enum Plan {
    Embed(Stamp),
    Store(Item),
    Nothing,
}

enum PlanError {
    Index(IndexError),
    Item(ItemError),
}

impl From<IndexError> for PlanError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl From<ItemError> for PlanError {
    fn from(error: ItemError) -> Self {
        Self::Item(error)
    }
}

/// Items that wait to be written together.
struct Batch<'a, S: ItemStore + ?Sized> {
    store: &'a S,
    items: Vec<Item>,
    size: usize,
}

impl<S: ItemStore + ?Sized> Batch<'_, S> {
    fn push(&mut self, item: Item) -> Result<(), IndexError> {
        self.items.push(item);
        if self.items.len() >= self.size { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        if self.items.is_empty() {
            return Ok(());
        }
        self.store.upsert(std::mem::take(&mut self.items))
    }
}
