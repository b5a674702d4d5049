//! The embedded index as a [`VectorIndex`].

use std::path::Path;

use super::EmbeddedIndex;
use crate::{
    Hit, IndexError, IndexInfo, Item, Patch, ProductSummary, SearchMode, SearchRequest, VectorIndex, kernels,
    store::Write, vector_index::TextCounts,
};

impl EmbeddedIndex {
    /// Number of items.
    pub fn count(&self) -> usize {
        self.shared.memory.read().count()
    }

    /// Figures about the index.
    pub fn info(&self) -> IndexInfo {
        let shared = &self.shared;
        let memory = shared.memory.read();
        let graph = memory.graph_info();
        IndexInfo {
            items: memory.count(),
            products: Some(memory.product_count()),
            dim: shared.options.dim,
            model_fingerprint: shared.options.model_fingerprint.clone(),
            tombstones: memory.tombstones(),
            generation: memory.generation(),
            mode: if graph.is_some() { SearchMode::Graph } else { SearchMode::Exact },
            graph,
            rebuilding: shared.rebuilding.is_locked(),
            effort: shared.recall.effort(),
            recall: shared.recall.estimate(),
            memory_bytes: memory.bytes(),
            disk_bytes: shared.store.disk_bytes(),
            kernel: kernels::kernel_name().into(),
        }
    }
}

impl VectorIndex for EmbeddedIndex {
    fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError> {
        Item::check_all(&items, self.shared.options.dim)?;
        self.writer.write(Write::Upsert(items)).map(|_| ())
    }

    fn patch(&self, patches: Vec<Patch>) -> Result<Vec<Result<usize, IndexError>>, IndexError> {
        self.writer.write(Write::Patch(patches))
    }

    fn delete(&self, ids: &[String]) -> Result<usize, IndexError> {
        self.writer.count(Write::Delete(ids.to_vec()))
    }

    fn delete_products(&self, product_ids: &[String]) -> Result<usize, IndexError> {
        self.writer.count(Write::DeleteProducts(product_ids.to_vec()))
    }

    fn get(&self, id: &str) -> Result<Option<Item>, IndexError> {
        self.shared.store.get(id)
    }

    fn product(&self, product_id: &str) -> Result<Vec<Item>, IndexError> {
        self.shared.items_of_product(product_id)
    }

    fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, IndexError> {
        self.shared.store.page(after, limit)
    }

    fn products(&self, after: Option<&str>, limit: usize) -> Result<Vec<ProductSummary>, IndexError> {
        Ok(self.shared.memory.read().products(after, limit))
    }

    fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
        self.answer(request)
    }

    fn search_many(&self, requests: &[SearchRequest]) -> Result<Vec<Vec<Hit>>, IndexError> {
        self.answer_many(requests)
    }

    fn count(&self) -> Result<usize, IndexError> {
        Ok(EmbeddedIndex::count(self))
    }

    /// Out of the metadata alone: their vectors are most of what items take on disk.
    fn texts(&self, field: &str, limit: usize) -> Result<Vec<(String, usize)>, IndexError> {
        let mut counts = TextCounts::default();
        self.shared.store.for_each_metadata(|_, metadata| {
            if let Some(value) = metadata.get(field) {
                counts.add(value);
            }
        })?;
        Ok(counts.most_frequent(limit))
    }

    fn check(&self) -> Result<(), IndexError> {
        self.shared.store.check()
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.writer.write(Write::Barrier).map(|_| ())
    }

    fn info(&self) -> Result<IndexInfo, IndexError> {
        Ok(EmbeddedIndex::info(self))
    }

    fn compact(&self) -> Result<(), IndexError> {
        self.shared.rebuild();
        Ok(())
    }

    fn backup(&self, folder: &Path) -> Result<usize, IndexError> {
        self.shared.store.backup(folder)
    }
}
