//! Patching: read, merge, and write back what is still as it was read.

use std::collections::HashMap;

use dfml_index::{IndexError, Patch};
use qdrant_client::qdrant::{
    Filter as Conditions, GetPoints, PointsSelector, PointsUpdateOperation, UpdateBatchPoints,
    WriteOrderingType,
    r#match::MatchValue,
    points_selector::PointsSelectorOneOf,
    points_update_operation::{Operation, SetPayload},
};

use crate::{
    filter, ids,
    index::Remote,
    point::{self, REVISION, Stored},
    read::PAGE,
    write::{ordering, revision},
};

/// Times that a patch is begun anew because somebody else changed the same item.
const ROUNDS_MAX: usize = 50;

impl Remote {
    /// Reads the items, merges, and writes each back only if it is still what was read; those that are not are done anew. So a patch
    /// neither loses another's change nor is undone by sending it again. Returns what became of each patch.
    pub(crate) async fn patch(
        &self,
        patches: Vec<Patch>,
    ) -> Result<Vec<Result<usize, IndexError>>, IndexError> {
        let mut patching = Patching::new(patches);
        let _writing = self.writing().read().await;
        for _ in 0..ROUNDS_MAX {
            let ids: Vec<String> = patching.waiting.keys().cloned().collect();
            let stored = self.stored(&ids, false).await?;
            let revision = revision();
            let operations = patching.merge(stored, &revision);
            self.in_parallel(operations, |operations| self.update(operations)).await?;
            if !patching.waiting.is_empty() {
                let written = self.written(&ids, &revision).await?;
                patching.note(&written);
            }
            if patching.waiting.is_empty() {
                return Ok(patching.outcomes);
            }
        }
        Err(IndexError::Unavailable {
            place: self.wire().place().to_owned(),
            detail: format!("{} items are changed by others all the time", patching.waiting.len()),
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
        let mut written = Vec::new();
        for some in ids.chunks(PAGE) {
            let request = GetPoints {
                collection_name: self.facts().name.clone(),
                ids: some.iter().map(|id| ids::point_id(id)).collect(),
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
            for mut retrieved in answer.result {
                let payload = &mut retrieved.payload;
                if point::take_text(payload, REVISION).is_ok_and(|found| found == revision) {
                    written
                        .push(point::take_text(payload, point::ID).map_err(|detail| self.damaged(detail))?);
                }
            }
        }
        Ok(written)
    }
}

/// Patches under way.
struct Patching {
    patches: Vec<Patch>,
    /// Of each patch: the items that have it, or why it was refused.
    outcomes: Vec<Result<usize, IndexError>>,
    /// Of each item that is not done: the positions of the patches that it is to get, in their order.
    waiting: HashMap<String, Vec<usize>>,
}

impl Patching {
    fn new(patches: Vec<Patch>) -> Self {
        let mut waiting: HashMap<String, Vec<usize>> = HashMap::new();
        for (position, patch) in patches.iter().enumerate() {
            for id in &patch.ids {
                waiting.entry(id.clone()).or_default().push(position);
            }
        }
        Self { outcomes: patches.iter().map(|_| Ok(0)).collect(), patches, waiting }
    }

    /// Merges the patches into the items as they are stored, refuses those that do not fit, and returns what is to be written.
    fn merge(&mut self, stored: Vec<Stored>, revision: &str) -> Vec<PointsUpdateOperation> {
        let mut items: HashMap<String, Stored> =
            stored.into_iter().map(|stored| (stored.item.id.clone(), stored)).collect();
        self.waiting.retain(|id, _| items.contains_key(id));
        for position in 0..self.patches.len() {
            if let Err(refused) = self.merge_one(position, &mut items) {
                self.refuse(position, refused);
            }
        }
        let changed = self.waiting.keys().filter_map(|id| items.get(id));
        changed.map(|stored| replacing(stored, revision)).collect()
    }

    /// Merges a patch into all items that wait for it or, where one of them would be too large, into none.
    fn merge_one(&self, position: usize, items: &mut HashMap<String, Stored>) -> Result<(), IndexError> {
        let patch = &self.patches[position];
        let mut merged = Vec::new();
        for id in &patch.ids {
            let is_waiting = self.waiting.get(id).is_some_and(|positions| positions.contains(&position));
            if is_waiting && let Some(stored) = items.get(id) {
                merged.push((id, patch.merged(id, &stored.item.metadata)?));
            }
        }
        for (id, metadata) in merged {
            if let Some(stored) = items.get_mut(id) {
                stored.item.metadata = metadata;
            }
        }
        Ok(())
    }

    /// Nobody waits for this patch any more.
    fn refuse(&mut self, position: usize, why: IndexError) {
        for positions in self.waiting.values_mut() {
            positions.retain(|&waiting| waiting != position);
        }
        self.waiting.retain(|_, positions| !positions.is_empty());
        self.outcomes[position] = Err(why);
    }

    /// These items have all that they waited for.
    fn note(&mut self, written: &[String]) {
        for position in written.iter().filter_map(|id| self.waiting.remove(id)).flatten() {
            if let Ok(items) = &mut self.outcomes[position] {
                *items += 1;
            }
        }
    }
}

/// Replaces the metadata of an item, if it is still what was read.
fn replacing(stored: &Stored, revision: &str) -> PointsUpdateOperation {
    let unchanged = filter::matching(REVISION, MatchValue::Keyword(stored.revision.clone()));
    let conditions = Conditions {
        must: vec![filter::points(std::slice::from_ref(&stored.item.id)), unchanged],
        ..Conditions::default()
    };
    let selector = PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(conditions)) };
    let set = SetPayload {
        payload: point::changeable(&stored.item.metadata, revision),
        points_selector: Some(selector),
        ..SetPayload::default()
    };
    PointsUpdateOperation { operation: Some(Operation::SetPayload(set)) }
}
