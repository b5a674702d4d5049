//! The interface of an index.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use crate::{Hit, IndexError, IndexInfo, Item, Patch, ProductSummary, Scalar, SearchRequest};

/// Items read at a time by [`texts_by_walking`].
const PAGE_ITEMS: usize = 1024;

/// A catalogue of embeddings that can be searched. All methods may be called from many threads at once.
///
/// The vectors may live in this process or on a server: nothing here assumes a file. An implementation that cannot do
/// [`VectorIndex::compact`] or [`VectorIndex::backup`] answers [`IndexError::Unsupported`]. One on a server answers
/// [`IndexError::Unavailable`] where the server cannot be reached.
///
/// A write that succeeds is done wholly. One that fails has changed nothing if the index is in this process; on a server it may
/// have changed some of the items, and the same write again makes up for the rest.
pub trait VectorIndex: Send + Sync {
    /// Adds items, replacing those with the same id; of two items with one id the later wins. Returns after they are
    /// durable and searchable. None is written if one of them cannot be stored.
    ///
    /// # Errors
    /// [`IndexError::InvalidItem`] names the first item that cannot be stored; otherwise the storage failed.
    fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError>;

    /// Changes the metadata of items, one patch after the other; ids that are not there are passed over. Returns after that is
    /// durable and filters see it, with the number of items that each patch changed.
    ///
    /// A patch that one of its items cannot take, because its metadata would be larger than [`Item::METADATA_BYTES_MAX`], is refused
    /// as a whole with [`IndexError::InvalidItem`], and the others are made all the same. On a server it may have been made to some of its
    /// items already if another writer has changed one of them at the same moment.
    ///
    /// # Errors
    /// The storage failed.
    fn patch(&self, patches: Vec<Patch>) -> Result<Vec<Result<usize, IndexError>>, IndexError>;

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

    /// The items with these ids that are there, in no order, each once.
    ///
    /// # Errors
    /// The storage failed.
    fn get_many(&self, ids: &[String]) -> Result<Vec<Item>, IndexError> {
        let ids: BTreeSet<&String> = ids.iter().collect();
        ids.into_iter().filter_map(|id| self.get(id).transpose()).collect()
    }

    /// The items of a product, oldest first; none if there is no such product.
    ///
    /// # Errors
    /// The storage failed.
    fn product(&self, product_id: &str) -> Result<Vec<Item>, IndexError>;

    /// Up to `limit` items, starting after the one with the id `after` (from the first if `None`), in an order that depends on
    /// their ids alone: of the ids themselves in an index in this process. Walks the whole catalogue page by page; an item that is
    /// there all the while is met exactly once, whatever is written meanwhile. `after` need not be there any more.
    ///
    /// # Errors
    /// The storage failed.
    fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, IndexError>;

    /// Up to `limit` products, starting after the one with the id `after` (from the first if `None`), in an order that depends on
    /// their ids alone, as that of [`VectorIndex::page`] does.
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
    ///
    /// # Errors
    /// The server does not answer.
    fn count(&self) -> Result<usize, IndexError>;

    /// Whether the index can answer now. Cheap enough to be asked every second.
    ///
    /// # Errors
    /// Why it cannot.
    fn check(&self) -> Result<(), IndexError> {
        Ok(())
    }

    /// Whether other processes may use it at the same time: then calls wait for another machine rather than compute, and what is
    /// remembered of it ages.
    fn is_shared(&self) -> bool {
        false
    }

    /// The texts in a metadata field and how many items have each, the most frequent first, at most `limit`. Lists count for each of
    /// their texts.
    ///
    /// # Errors
    /// The storage failed.
    fn texts(&self, field: &str, limit: usize) -> Result<Vec<(String, usize)>, IndexError> {
        texts_by_walking(self, field, limit)
    }

    /// Waits until every write that was under way when it was called is durable and searchable.
    ///
    /// # Errors
    /// The storage failed.
    fn flush(&self) -> Result<(), IndexError>;

    /// Figures about the index.
    ///
    /// # Errors
    /// The server does not answer.
    fn info(&self) -> Result<IndexInfo, IndexError>;

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

    /// The right to do alone what only one process may do at a time, such as an import; `None` if another has it now. An index that
    /// one process has to itself always gives it.
    ///
    /// # Errors
    /// The server does not answer.
    fn lease(&self, name: &str) -> Result<Option<Box<dyn Lease>>, IndexError> {
        let _ = name;
        Ok(Some(Box::new(Own)))
    }
}

/// [`VectorIndex::texts`] out of every item, page by page.
///
/// # Errors
/// The storage failed.
pub fn texts_by_walking(
    index: &(impl VectorIndex + ?Sized),
    field: &str,
    limit: usize,
) -> Result<Vec<(String, usize)>, IndexError> {
    let (mut counts, mut after) = (TextCounts::default(), None::<String>);
    loop {
        let page = index.page(after.as_deref(), PAGE_ITEMS)?;
        page.iter().filter_map(|item| item.metadata.get(field)).for_each(|value| counts.add(value));
        match page.last() {
            Some(last) if page.len() == PAGE_ITEMS => after = Some(last.id.clone()),
            _ => return Ok(counts.most_frequent(limit)),
        }
    }
}

/// In how many items each text is, of a field that is looked at item by item.
#[derive(Default)]
pub(crate) struct TextCounts(BTreeMap<String, usize>);

impl TextCounts {
    /// Counts what an item has in the field.
    pub(crate) fn add(&mut self, value: &Value) {
        let texts: BTreeSet<String> = Scalar::of_field(value).into_iter().filter_map(Scalar::text).collect();
        texts.into_iter().for_each(|text| *self.0.entry(text).or_default() += 1);
    }

    /// The texts, the most frequent first, at most `limit`.
    pub(crate) fn most_frequent(self, limit: usize) -> Vec<(String, usize)> {
        let mut counts: Vec<_> = self.0.into_iter().collect();
        counts.sort_by_key(|&(_, items)| Reverse(items));
        counts.truncate(limit);
        counts
    }
}

/// A right that is held until it is dropped, or lost where the server could not be told for too long.
pub trait Lease: Send + Sync {
    /// Whether it is still held. Who has lost it stops what it is for.
    fn is_held(&self) -> bool;
}

/// Nobody else could have it.
struct Own;

impl Lease for Own {
    fn is_held(&self) -> bool {
        true
    }
}
