//! Reading items.

use std::collections::HashSet;

use dfml_index::{IndexError, Item};
use qdrant_client::qdrant::{CountPoints, Filter as Conditions, GetPoints, PointId, ScrollPoints};

use crate::{
    filter, ids,
    index::Remote,
    point::{self, Stored},
};

/// Items in one answer of the engine.
pub(crate) const PAGE: usize = 1000;

impl Remote {
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Item>, IndexError> {
        let mut stored = self.stored(&[id.to_owned()], true).await?;
        Ok(stored.pop().map(|stored| stored.item))
    }

    /// The items with these ids that are there, in no order, each once.
    pub(crate) async fn stored(&self, ids: &[String], vectors: bool) -> Result<Vec<Stored>, IndexError> {
        let wanted: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let wanted: Vec<&str> = wanted.into_iter().collect();
        let mut found = Vec::new();
        for some in wanted.chunks(PAGE) {
            let request = GetPoints {
                collection_name: self.facts().name.clone(),
                ids: some.iter().map(|id| ids::point_id(id)).collect(),
                with_payload: point::with_item(),
                with_vectors: point::with_vectors(vectors),
                ..GetPoints::default()
            };
            let answer = self
                .wire()
                .read(|client| {
                    let request = request.clone();
                    async move { client.get_points(request).await }
                })
                .await?;
            for retrieved in answer.result {
                let stored = self.item(retrieved.payload, retrieved.vectors)?;
                // Two ids of one point: as unlikely as two files of one checksum, and then the later has the place.
                if some.contains(&stored.item.id.as_str()) {
                    found.push(stored);
                }
            }
        }
        Ok(found)
    }

    pub(crate) async fn product(&self, product_id: &str) -> Result<Vec<Item>, IndexError> {
        let of_product = filter::products(vec![product_id.to_owned()]);
        let conditions = Conditions { must: vec![of_product], ..Conditions::default() };
        let (mut found, mut offset) = (Vec::new(), None);
        loop {
            let (stored, next) = self.scroll(offset, PAGE, Some(conditions.clone())).await?;
            found.extend(stored);
            match next {
                Some(next) => offset = Some(next),
                None => break,
            }
        }
        found.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.item.id.cmp(&b.item.id)));
        Ok(found.into_iter().map(|stored| stored.item).collect())
    }

    /// Items in the order of their points' ids.
    pub(crate) async fn page(&self, after: Option<&str>, limit: usize) -> Result<Vec<Item>, IndexError> {
        let mut items: Vec<Item> = Vec::new();
        let mut offset = after.map(ids::point_id);
        while items.len() < limit {
            // One more: the engine begins with the point that is named, if it is there.
            let size = (limit - items.len()).saturating_add(1).min(PAGE);
            let (stored, next) = self.scroll(offset, size, None).await?;
            items.extend(stored.into_iter().map(|stored| stored.item).filter(|item| after != Some(&item.id)));
            match next {
                Some(next) => offset = Some(next),
                None => break,
            }
        }
        items.truncate(limit);
        Ok(items)
    }

    async fn scroll(
        &self,
        offset: Option<PointId>,
        limit: usize,
        filter: Option<Conditions>,
    ) -> Result<(Vec<Stored>, Option<PointId>), IndexError> {
        let request = ScrollPoints {
            collection_name: self.facts().name.clone(),
            filter,
            offset,
            limit: Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            with_payload: point::with_item(),
            with_vectors: point::with_vectors(true),
            ..ScrollPoints::default()
        };
        let answer = self
            .wire()
            .read(|client| {
                let request = request.clone();
                async move { client.scroll(request).await }
            })
            .await?;
        let stored = answer.result.into_iter().map(|point| self.item(point.payload, point.vectors));
        Ok((stored.collect::<Result<_, _>>()?, answer.next_page_offset))
    }

    /// Number of items, exactly.
    pub(crate) async fn count(&self) -> Result<usize, IndexError> {
        self.count_of(None).await
    }

    pub(crate) async fn count_of(&self, filter: Option<Conditions>) -> Result<usize, IndexError> {
        let request = CountPoints {
            collection_name: self.facts().name.clone(),
            filter,
            exact: Some(true),
            ..CountPoints::default()
        };
        let answer = self
            .wire()
            .read(|client| {
                let request = request.clone();
                async move { client.count(request).await }
            })
            .await?;
        Ok(answer.result.map_or(0, |result| result.count as usize))
    }
}
