//! Writing: whatever is sent can be sent again.

use std::collections::{HashMap, HashSet};

use dfml_index::{IndexError, Item, Patch};
use futures_util::{StreamExt, TryStreamExt, stream};
use qdrant_client::qdrant::{
    DeletePoints, Filter as Conditions, GetPoints, PointStruct, PointsIdsList, PointsSelector,
    PointsUpdateOperation, UpdateBatchPoints, UpsertPoints, WriteOrdering, WriteOrderingType,
    r#match::MatchValue,
    points_selector::PointsSelectorOneOf,
    points_update_operation::{Operation, SetPayload},
};
use uuid::Uuid;

use crate::{
    filter, ids,
    index::Remote,
    point::{self, REVISION, Stored},
};

/// Times that a patch is begun anew because somebody else changed the same item.
const ROUNDS_MAX: usize = 50;

impl Remote {
    pub(crate) async fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError> {
        Item::check_all(&items, self.facts().dim)?;
        let first = self.clock().take(items.len());
        let revision = revision();
        // Of two items with one id the later wins: they may be in requests that overtake each other.
        let mut last: HashMap<String, usize> = HashMap::new();
        for (position, item) in items.iter().enumerate() {
            last.insert(item.id.clone(), position);
        }
        let points: Vec<PointStruct> = (first..)
            .zip(items)
            .enumerate()
            .filter(|(position, (_, item))| last.get(&item.id) == Some(position))
            .map(|(_, (at, item))| point::of_item(item, at, &revision))
            .collect();
        let _writing = self.writing().read().await;
        self.in_parallel(points, |points| async move {
            let request = UpsertPoints {
                collection_name: self.facts().name.clone(),
                wait: Some(true),
                points,
                ordering: ordering(WriteOrderingType::Medium),
                ..UpsertPoints::default()
            };
            self.wire()
                .write(|client| {
                    let request = request.clone();
                    async move { client.upsert_points(request).await.map(drop) }
                })
                .await
        })
        .await
    }

    pub(crate) async fn delete(&self, ids: Vec<String>) -> Result<usize, IndexError> {
        let there = self.stored(&ids, false).await?.len();
        if there == 0 {
            return Ok(0);
        }
        let ids: Vec<String> = ids.into_iter().collect::<HashSet<_>>().into_iter().collect();
        let _writing = self.writing().read().await;
        self.in_parallel(ids, |ids| async move {
            let ids = ids.iter().map(|id| ids::point_id(id)).collect();
            self.delete_selected(PointsSelectorOneOf::Points(PointsIdsList { ids })).await
        })
        .await?;
        Ok(there)
    }

    pub(crate) async fn delete_products(&self, product_ids: Vec<String>) -> Result<usize, IndexError> {
        if product_ids.is_empty() {
            return Ok(0);
        }
        let of_products = filter::products(product_ids);
        let conditions = Conditions { must: vec![of_products], ..Conditions::default() };
        let there = self.count_of(Some(conditions.clone())).await?;
        let _writing = self.writing().read().await;
        self.delete_selected(PointsSelectorOneOf::Filter(conditions)).await?;
        Ok(there)
    }

    async fn delete_selected(&self, selected: PointsSelectorOneOf) -> Result<(), IndexError> {
        let request = DeletePoints {
            collection_name: self.facts().name.clone(),
            wait: Some(true),
            points: Some(PointsSelector { points_selector_one_of: Some(selected) }),
            ordering: ordering(WriteOrderingType::Medium),
            ..DeletePoints::default()
        };
        self.wire()
            .write(|client| {
                let request = request.clone();
                async move { client.delete_points(request).await.map(drop) }
            })
            .await
    }

    /// Reads the items, merges, and writes each back only if it is still what was read; those that are not are done anew. So a patch
    /// neither loses another's change nor is undone by sending it again.
    pub(crate) async fn patch(&self, patches: Vec<Patch>) -> Result<usize, IndexError> {
        let mut waiting: HashMap<String, Vec<Patch>> = HashMap::new();
        for patch in patches {
            waiting.entry(patch.id.clone()).or_default().push(patch);
        }
        let mut changed = 0;
        let _writing = self.writing().read().await;
        for _ in 0..ROUNDS_MAX {
            let ids: Vec<String> = waiting.keys().cloned().collect();
            let stored = self.stored(&ids, false).await?;
            let there: HashSet<&str> = stored.iter().map(|stored| stored.item.id.as_str()).collect();
            waiting.retain(|id, _| there.contains(id.as_str()));
            if waiting.is_empty() {
                return Ok(changed);
            }
            let revision = revision();
            let operations = stored.iter().map(|stored| replacing(stored, &waiting, &revision)).collect();
            self.in_parallel(operations, |operations| self.update(operations)).await?;
            for id in self.written(&ids, &revision).await? {
                changed += waiting.remove(&id).map_or(0, |patches| patches.len());
            }
            if waiting.is_empty() {
                return Ok(changed);
            }
        }
        Err(IndexError::Unavailable {
            place: self.wire().place().to_owned(),
            detail: format!("{} items are changed by others all the time", waiting.len()),
        })
    }

    async fn update(&self, operations: Vec<PointsUpdateOperation>) -> Result<(), IndexError> {
        let request = UpdateBatchPoints {
            collection_name: self.facts().name.clone(),
            wait: Some(true),
            operations,
            // Whether an item is still what was read is decided in one place.
            ordering: ordering(WriteOrderingType::Strong),
            ..UpdateBatchPoints::default()
        };
        self.wire()
            .write(|client| {
                let request = request.clone();
                async move { client.update_points_batch(request).await.map(drop) }
            })
            .await
    }

    /// Which of these items the write with this name was the last to change.
    async fn written(&self, ids: &[String], revision: &str) -> Result<Vec<String>, IndexError> {
        let request = GetPoints {
            collection_name: self.facts().name.clone(),
            ids: ids.iter().map(|id| ids::point_id(id)).collect(),
            with_payload: point::with_payload(&[point::ID, REVISION]),
            with_vectors: point::with_vectors(false),
            ..GetPoints::default()
        };
        let answer = self
            .wire()
            .read(|client| {
                let request = request.clone();
                async move { client.get_points(request).await }
            })
            .await?;
        let mut written = Vec::new();
        for mut retrieved in answer.result {
            let payload = &mut retrieved.payload;
            if point::take_text(payload, REVISION).is_ok_and(|found| found == revision) {
                written.push(point::take_text(payload, point::ID).map_err(|detail| self.damaged(detail))?);
            }
        }
        Ok(written)
    }

    /// Cuts things into requests of the size that is set, as many at a time as are set. Ends at the first that fails.
    async fn in_parallel<'r, T, R>(
        &'r self,
        all: Vec<T>,
        send: impl Fn(Vec<T>) -> R,
    ) -> Result<(), IndexError>
    where
        R: Future<Output = Result<(), IndexError>> + 'r,
    {
        let mut all = all.into_iter();
        let size = self.options().batch_size;
        let requests = std::iter::from_fn(|| {
            let some: Vec<T> = all.by_ref().take(size).collect();
            (!some.is_empty()).then_some(some)
        });
        stream::iter(requests.map(send).collect::<Vec<_>>())
            .buffer_unordered(self.parallelism())
            .try_collect::<Vec<()>>()
            .await
            .map(drop)
    }
}

/// Replaces the metadata of an item by the patched, if it is still what was read.
fn replacing(
    stored: &Stored,
    patches: &HashMap<String, Vec<Patch>>,
    revision: &str,
) -> PointsUpdateOperation {
    let id = &stored.item.id;
    let mut metadata = stored.item.metadata.clone();
    for patch in patches.get(id).into_iter().flatten() {
        patch.apply(&mut metadata);
    }
    let unchanged = filter::matching(REVISION, MatchValue::Keyword(stored.revision.clone()));
    let conditions = Conditions {
        must: vec![filter::points(std::slice::from_ref(id)), unchanged],
        ..Conditions::default()
    };
    let selector = PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(conditions)) };
    let set = SetPayload {
        payload: point::changeable(&metadata, revision),
        points_selector: Some(selector),
        ..SetPayload::default()
    };
    PointsUpdateOperation { operation: Some(Operation::SetPayload(set)) }
}

fn ordering(kind: WriteOrderingType) -> Option<WriteOrdering> {
    Some(WriteOrdering { r#type: kind.into() })
}

/// A name that no other write has.
fn revision() -> String {
    Uuid::now_v7().to_string()
}
