//! The index on Qdrant as a [`VectorIndex`].

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use dfml_index::{
    GraphInfo, Hit, IndexError, IndexInfo, Item, OpenOptions, Patch, ProductSummary, SearchMode,
    SearchRequest, VectorIndex,
};
use parking_lot::Mutex;
use qdrant_client::qdrant::VectorsOutput;
use tokio::sync::RwLock;

use crate::{
    clock::Clock,
    collection::{self, Facts, Graph},
    lease,
    options::QdrantOptions,
    point::{self, Payload, Stored},
    wire::{Threads, Wire},
};

/// How long the number of products is not counted again.
const PRODUCTS_FRESH: Duration = Duration::from_secs(5);

/// A model's collection on Qdrant. All methods of [`VectorIndex`] block the thread until the engine has answered.
pub struct QdrantIndex {
    remote: Arc<Remote>,
    threads: Threads,
}

/// What the calls share.
pub(crate) struct Remote {
    wire: Wire,
    options: QdrantOptions,
    facts: Facts,
    /// Effort (`ef`) of searches that do not name their own.
    effort: usize,
    clock: Clock,
    /// Held for reading by each write: who holds it for writing knows that those before have ended.
    writing: RwLock<()>,
    products: Mutex<Option<(Instant, Option<usize>)>>,
}

impl QdrantIndex {
    /// Connects, and opens the collection of a model or, with `create`, makes it.
    ///
    /// # Errors
    /// [`IndexError::NotFound`] if there is no such catalogue and none is to be made, [`IndexError::WrongModel`] and
    /// [`IndexError::WrongDim`] if it is of another model, [`IndexError::Unavailable`] if the engine does not answer,
    /// [`IndexError::InvalidRequest`] if the options cannot be meant.
    pub fn open(options: &QdrantOptions, open: &OpenOptions) -> Result<Self, IndexError> {
        let wire = Wire::new(options)?;
        let threads = Threads::start(wire.place())?;
        let graph = Graph { links: open.tuning.links, build_effort: open.tuning.build_effort };
        let facts = {
            let (wire, options) = (wire.clone(), options.clone());
            let (dim, fingerprint, create) = (open.dim, open.model_fingerprint.clone(), open.create);
            threads.wait(async move {
                collection::open(&wire, &options, graph, (dim, &fingerprint, create)).await
            })?
        };
        Ok(Self::of(wire, threads, options, facts, open.tuning.effort))
    }

    /// Opens the collection that the catalogue's name stands for now, whichever model it is of.
    ///
    /// # Errors
    /// As [`QdrantIndex::open`].
    pub fn open_current(options: &QdrantOptions) -> Result<Self, IndexError> {
        let wire = Wire::new(options)?;
        let threads = Threads::start(wire.place())?;
        let found = {
            let (wire, options) = (wire.clone(), options.clone());
            threads.wait(async move { collection::current(&wire, &options).await })?
        };
        let facts = found.ok_or_else(|| IndexError::NotFound { path: wire.place().into() })?;
        Ok(Self::of(wire, threads, options, facts, dfml_index::Tuning::default().effort))
    }

    fn of(wire: Wire, threads: Threads, options: &QdrantOptions, facts: Facts, effort: usize) -> Self {
        let remote = Remote {
            wire,
            options: options.clone(),
            facts,
            effort,
            clock: Clock::default(),
            writing: RwLock::new(()),
            products: Mutex::new(None),
        };
        Self { remote: Arc::new(remote), threads }
    }

    /// Length of the vectors.
    pub fn dim(&self) -> usize {
        self.remote.facts.dim
    }

    /// The model that made the vectors.
    pub fn model_fingerprint(&self) -> &str {
        &self.remote.facts.fingerprint
    }

    /// The collection's own name.
    pub fn collection(&self) -> &str {
        &self.remote.facts.name
    }

    /// The engine's address and the catalogue's name.
    pub fn place(&self) -> &str {
        self.remote.wire.place()
    }

    /// Lets the catalogue's name stand for this model's collection from now on. Who has another one open goes on with that.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn activate(&self) -> Result<(), IndexError> {
        self.wait(|remote| async move {
            collection::activate(&remote.wire, &remote.options, &remote.facts.name).await
        })
    }

    /// Lets the engine write a snapshot of the collection, on its own machines. Returns its name there.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn snapshot(&self) -> Result<String, IndexError> {
        self.wait(|remote| async move {
            let name = remote.facts.name.clone();
            let answer = remote.wire.read(|client| {
                let name = name.clone();
                async move { client.create_snapshot(name).await }
            });
            Ok(answer.await?.snapshot_description.map(|snapshot| snapshot.name).unwrap_or_default())
        })
    }

    /// Deletes the collection with everything in it, and the alias if it names this one: for a generation that is no longer used.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn remove(self) -> Result<(), IndexError> {
        self.wait(|remote| async move {
            collection::remove(&remote.wire, &remote.options, &remote.facts.name).await
        })
    }

    fn wait<T, R>(&self, call: impl FnOnce(Arc<Remote>) -> R) -> Result<T, IndexError>
    where
        T: Send + 'static,
        R: Future<Output = Result<T, IndexError>> + Send + 'static,
    {
        self.threads.wait(call(Arc::clone(&self.remote)))
    }

    fn change<T, R>(&self, call: impl FnOnce(Arc<Remote>) -> R) -> Result<T, IndexError>
    where
        T: Send + 'static,
        R: Future<Output = Result<T, IndexError>> + Send + 'static,
    {
        let changed = self.wait(call);
        *self.remote.products.lock() = None;
        changed
    }
}

impl Remote {
    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(crate) fn options(&self) -> &QdrantOptions {
        &self.options
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn effort(&self) -> usize {
        self.effort
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn writing(&self) -> &RwLock<()> {
        &self.writing
    }

    pub(crate) fn parallelism(&self) -> usize {
        self.options.parallelism
    }

    pub(crate) fn item(
        &self,
        payload: Payload,
        vectors: Option<VectorsOutput>,
    ) -> Result<Stored, IndexError> {
        point::to_item(payload, vectors).map_err(|detail| self.damaged(detail))
    }

    pub(crate) fn damaged(&self, detail: String) -> IndexError {
        IndexError::Damaged { path: self.wire.place().into(), detail }
    }

    async fn info(&self) -> Result<IndexInfo, IndexError> {
        let found = collection::info(&self.wire, &self.facts.name).await?;
        let found = found.ok_or_else(|| IndexError::NotFound { path: self.wire.place().into() })?;
        let items = self.count().await?;
        let indexed = found.indexed_vectors_count.unwrap_or_default() as usize;
        let graph = GraphInfo { items: indexed, fresh: items.saturating_sub(indexed), layers: 0 };
        let version = self.wire.check().await?.version;
        Ok(IndexInfo {
            items,
            products: self.products_counted(items).await?,
            dim: self.facts.dim,
            model_fingerprint: self.facts.fingerprint.clone(),
            tombstones: 0,
            generation: 0,
            mode: if indexed > 0 { SearchMode::Graph } else { SearchMode::Exact },
            graph: (indexed > 0).then_some(graph),
            rebuilding: false,
            effort: self.effort,
            recall: None,
            memory_bytes: 0,
            disk_bytes: 0,
            kernel: format!("qdrant {version}"),
        })
    }

    async fn products_counted(&self, items: usize) -> Result<Option<usize>, IndexError> {
        let kept = *self.products.lock();
        if let Some((when, count)) = kept
            && when.elapsed() < PRODUCTS_FRESH
        {
            return Ok(count);
        }
        let count = self.product_count(items).await?;
        *self.products.lock() = Some((Instant::now(), count));
        Ok(count)
    }
}

impl VectorIndex for QdrantIndex {
    fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError> {
        self.change(|remote| async move { remote.upsert(items).await })
    }

    fn patch(&self, patches: Vec<Patch>) -> Result<Vec<Result<usize, IndexError>>, IndexError> {
        self.change(|remote| async move { remote.patch(patches).await })
    }

    fn delete(&self, ids: &[String]) -> Result<usize, IndexError> {
        let ids = ids.to_vec();
        self.change(|remote| async move { remote.delete(ids).await })
    }

    fn delete_products(&self, product_ids: &[String]) -> Result<usize, IndexError> {
        let ids = product_ids.to_vec();
        self.change(|remote| async move { remote.delete_products(ids).await })
    }

    fn get(&self, id: &str) -> Result<Option<Item>, IndexError> {
        let id = id.to_owned();
        self.wait(|remote| async move { remote.get(&id).await })
    }

    fn get_many(&self, ids: &[String]) -> Result<Vec<Item>, IndexError> {
        let ids = ids.to_vec();
        self.wait(|remote| async move {
            Ok(remote.stored(&ids, true).await?.into_iter().map(|stored| stored.item).collect())
        })
    }

    fn product(&self, product_id: &str) -> Result<Vec<Item>, IndexError> {
        let id = product_id.to_owned();
        self.wait(|remote| async move { remote.product(&id).await })
    }

    fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, IndexError> {
        let after = after.map(str::to_owned);
        self.wait(|remote| async move { remote.page(after.as_deref(), limit).await })
    }

    fn products(&self, after: Option<&str>, limit: usize) -> Result<Vec<ProductSummary>, IndexError> {
        let after = after.map(str::to_owned);
        self.wait(|remote| async move { remote.products(after.as_deref(), limit).await })
    }

    fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
        let request = request.clone();
        self.wait(|remote| async move { remote.search(&request).await })
    }

    fn search_many(&self, requests: &[SearchRequest]) -> Result<Vec<Vec<Hit>>, IndexError> {
        let requests = requests.to_vec();
        self.wait(|remote| async move { remote.search_many(requests).await })
    }

    fn count(&self) -> Result<usize, IndexError> {
        self.wait(|remote| async move { remote.count().await })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn texts(&self, field: &str, limit: usize) -> Result<Vec<(String, usize)>, IndexError> {
        if !self.remote.options.keyword_fields.iter().any(|indexed| indexed == field) {
            return dfml_index::texts_by_walking(self, field, limit);
        }
        let field = field.to_owned();
        self.wait(|remote| async move { remote.texts(&field, limit).await })
    }

    fn check(&self) -> Result<(), IndexError> {
        self.wait(|remote| async move { remote.wire.check().await.map(drop) })
    }

    fn flush(&self) -> Result<(), IndexError> {
        // Each write returns after the engine has it; those of other threads are waited for.
        self.wait(|remote| async move {
            drop(remote.writing.write().await);
            Ok(())
        })
    }

    fn info(&self) -> Result<IndexInfo, IndexError> {
        self.wait(|remote| async move { remote.info().await })
    }

    fn compact(&self) -> Result<(), IndexError> {
        Err(IndexError::Unsupported { operation: "be compacted from here: the engine does that by itself" })
    }

    fn backup(&self, _folder: &Path) -> Result<usize, IndexError> {
        Err(IndexError::Unsupported {
            operation: "be backed up into a folder here: copy it (`dfml index copy`), or let the engine make a snapshot",
        })
    }

    fn lease(&self, name: &str) -> Result<Option<Box<dyn dfml_index::Lease>>, IndexError> {
        let (name, handle) = (name.to_owned(), self.threads.handle()?);
        let lease = self.wait(|remote| async move { lease::take(remote, &name, handle).await })?;
        Ok(lease.map(|lease| Box::new(lease) as Box<dyn dfml_index::Lease>))
    }
}
