//! Writing: whatever is sent can be sent again.

use std::collections::{HashMap, HashSet};

use dfml_index::{IndexError, Item};
use futures_util::{StreamExt, TryStreamExt, stream};
use qdrant_client::qdrant::{
    DeletePoints, Filter as Conditions, PointStruct, PointsIdsList, PointsSelector, UpsertPoints,
    WriteOrdering, WriteOrderingType, points_selector::PointsSelectorOneOf,
};
use uuid::Uuid;

use crate::{filter, ids, index::Remote, point};

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

    /// Cuts things into requests of the size that is set, as many at a time as are set. Ends at the first that fails.
    pub(crate) async fn in_parallel<'r, T, R>(
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

pub(crate) fn ordering(kind: WriteOrderingType) -> Option<WriteOrdering> {
    Some(WriteOrdering { r#type: kind.into() })
}

/// A name that no other write has.
pub(crate) fn revision() -> String {
    Uuid::now_v7().to_string()
}
