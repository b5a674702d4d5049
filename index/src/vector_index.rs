//! The interface of an index.

use std::path::Path;

use crate::{Hit, IndexError, IndexInfo, Item, Patch, ProductSummary, SearchRequest};

/// A catalogue of embeddings that can be searched. All methods may be called from many threads at once.
///
/// The vectors may live in this process or on a server: nothing here assumes a file. An implementation that cannot do
/// [`VectorIndex::compact`] or [`VectorIndex::backup`] answers [`IndexError::Unsupported`].
pub trait VectorIndex: Send + Sync {
    /// Adds items, replacing those with the same id; of two items with one id the later wins. Returns after they are
    /// durable and searchable. All of them are written, or none.
    ///
    /// # Errors
    /// [`IndexError::InvalidItem`] names the first item that cannot be stored; otherwise the storage failed.
    fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError>;

    /// Changes the metadata of items; ids that are not there are passed over. Returns after that is durable and filters see
    /// it, with the number of items changed. All of them are changed, or none.
    ///
    /// # Errors
    /// The storage failed.
    fn patch(&self, patches: Vec<Patch>) -> Result<usize, IndexError>;

    /// Deletes items by id; ids that are not there are passed over. Returns after that is durable, with the number of
    /// items deleted.
    ///
    /// # Errors
    /// The storage failed.
    fn delete(&self, ids: &[String]) -> Result<usize, IndexError>;

    /// Deletes all items of products; products that are not there are passed over. Returns after that is durable, with
    /// the number of items deleted.
    ///
    /// # Errors
    /// The storage failed.
    fn delete_products(&self, product_ids: &[String]) -> Result<usize, IndexError>;

    /// The item with this id.
    ///
    /// # Errors
    /// The storage failed.
    fn get(&self, id: &str) -> Result<Option<Item>, IndexError>;

    /// The items of a product, oldest first; none if there is no such product.
    ///
    /// # Errors
    /// The storage failed.
    fn product(&self, product_id: &str) -> Result<Vec<Item>, IndexError>;

    /// Up to `limit` items in order of their ids, starting after the id `after` (from the first if `None`). Walks the whole
    /// catalogue page by page.
    ///
    /// # Errors
    /// The storage failed.
    fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, IndexError>;

    /// Up to `limit` products in order of their ids, starting after the id `after` (from the first if `None`).
    ///
    /// # Errors
    /// The storage failed.
    fn products(&self, after: Option<&str>, limit: usize) -> Result<Vec<ProductSummary>, IndexError>;

    /// The best hits, best first.
    ///
    /// # Errors
    /// [`IndexError::InvalidRequest`] if a vector has the wrong length, is zero or is not finite;
    /// [`IndexError::NoSuchItem`] and [`IndexError::NoSuchProduct`] if an example is not there; otherwise the storage failed.
    fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError>;

    /// The answers to many requests, in their order. Faster than one after the other where comparing every item.
    ///
    /// # Errors
    /// As [`VectorIndex::search`], for the first request that fails.
    fn search_many(&self, requests: &[SearchRequest]) -> Result<Vec<Vec<Hit>>, IndexError> {
        requests.iter().map(|request| self.search(request)).collect()
    }

    /// Number of items.
    fn count(&self) -> usize;

    /// Waits until every write that was under way when it was called is durable and searchable.
    ///
    /// # Errors
    /// The storage failed.
    fn flush(&self) -> Result<(), IndexError>;

    /// Figures about the index.
    fn info(&self) -> IndexInfo;

    /// Gives back the memory of deleted items and, where the index is large enough for one, builds the search graph anew.
    /// Reads and writes go on meanwhile; returns when the new generation is in use.
    ///
    /// # Errors
    /// [`IndexError::Unsupported`], or the storage failed.
    fn compact(&self) -> Result<(), IndexError>;

    /// Writes a consistent copy of everything into a new folder, which can be opened as an index. Reads and writes go on
    /// meanwhile; the copy is of the moment when it began. Returns the number of items in it.
    ///
    /// # Errors
    /// [`IndexError::Exists`] if there is a store in the folder already, [`IndexError::Unsupported`], or the storage failed.
    fn backup(&self, folder: &Path) -> Result<usize, IndexError>;
}
