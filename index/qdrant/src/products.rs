//! Listing products: in the order of a number made of their ids, which the engine can sort by.

use std::collections::BTreeSet;

use dfml_index::{IndexError, ProductSummary};
use qdrant_client::qdrant::{
    FacetCounts, FacetHit, Filter as Conditions, OrderBy, RepeatedIntegers, ScrollPoints, StartFrom,
    facet_value, r#match::MatchValue, start_from,
};

use crate::{
    filter, ids,
    index::Remote,
    point::{self, PRODUCT_HASH},
};

/// Points looked at in one step, at least and at most.
const STEP: std::ops::RangeInclusive<usize> = 64..=4096;
/// Most products whose items are counted in one step.
const COUNTED: usize = 1000;
/// Up to this many items, products are counted for [`IndexInfo`](dfml_index::IndexInfo).
const ITEMS_FEW: usize = 100_000;

impl Remote {
    /// Products in the order of their places, those of one place in that of their ids.
    pub(crate) async fn products(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ProductSummary>, IndexError> {
        let mut listed = Vec::new();
        // The place of the product named is looked at again: others may share it.
        let mut from = after.map_or(0, ids::product_hash);
        let is_after = |summary: &ProductSummary| {
            let place = |id: &str| (ids::product_hash(id), id.to_owned());
            after.is_none_or(|after| place(&summary.product_id) > place(after))
        };
        while listed.len() < limit {
            let step = (limit - listed.len()).saturating_mul(4).clamp(*STEP.start(), *STEP.end());
            let (places, is_last) = self.places(from, step).await?;
            let Some(&last) = places.last() else { break };
            let places: Vec<i64> = places.into_iter().collect();
            for some in places.chunks(COUNTED) {
                listed.extend(self.products_at(some).await?.into_iter().filter(is_after));
            }
            match last.checked_add(1) {
                Some(next) if !is_last => from = next,
                _ => break,
            }
        }
        listed.truncate(limit);
        Ok(listed)
    }

    /// The next places at which there are products, and whether these are all.
    async fn places(&self, from: i64, points: usize) -> Result<(BTreeSet<i64>, bool), IndexError> {
        let request = ScrollPoints {
            collection_name: self.facts().name.clone(),
            limit: Some(points as u32),
            with_payload: point::with_payload(&[PRODUCT_HASH]),
            with_vectors: point::with_vectors(false),
            order_by: Some(OrderBy {
                key: PRODUCT_HASH.into(),
                direction: None,
                start_from: Some(StartFrom { value: Some(start_from::Value::Integer(from)) }),
            }),
            ..ScrollPoints::default()
        };
        let answer = self
            .wire()
            .read(|client| {
                let request = request.clone();
                async move { client.scroll(request).await }
            })
            .await?;
        let is_last = answer.result.len() < points;
        let places = answer.result.iter().filter_map(|point| point.payload.get(PRODUCT_HASH)?.as_integer());
        Ok((places.collect(), is_last))
    }

    /// The products at these places, with the number of their items.
    async fn products_at(&self, places: &[i64]) -> Result<Vec<ProductSummary>, IndexError> {
        let integers = RepeatedIntegers { integers: places.to_vec() };
        let at = filter::matching(PRODUCT_HASH, MatchValue::Integers(integers));
        // Places are rarely shared; an answer that is full is asked for again with more room.
        let mut room = places.len() + 16;
        loop {
            let conditions = Conditions { must: vec![at.clone()], ..Conditions::default() };
            let counts = self.facet(filter::PRODUCT.into(), Some(conditions), room).await?;
            let summary = |(product_id, items)| ProductSummary { product_id, items };
            let mut found: Vec<ProductSummary> = counts.into_iter().map(summary).collect();
            if found.len() < room {
                found.sort_by_cached_key(|found| {
                    (ids::product_hash(&found.product_id), found.product_id.clone())
                });
                return Ok(found);
            }
            room *= 2;
        }
    }

    /// The texts of a payload's key that is indexed, and how many points have each, the most frequent first.
    async fn facet(
        &self,
        key: String,
        filter: Option<Conditions>,
        limit: usize,
    ) -> Result<Vec<(String, usize)>, IndexError> {
        let request = FacetCounts {
            collection_name: self.facts().name.clone(),
            key,
            filter,
            limit: Some(limit as u64),
            exact: Some(true),
            ..FacetCounts::default()
        };
        let answer = self
            .wire()
            .read(|client| {
                let request = request.clone();
                async move { client.facet(request).await }
            })
            .await?;
        let counted = |hit: FacetHit| match hit.value?.variant? {
            facet_value::Variant::StringValue(text) if hit.count > 0 => Some((text, hit.count as usize)),
            _ => None,
        };
        Ok(answer.hits.into_iter().filter_map(counted).collect())
    }

    /// The texts of a metadata field that is indexed, and how many items have each.
    pub(crate) async fn texts(&self, field: &str, limit: usize) -> Result<Vec<(String, usize)>, IndexError> {
        self.facet(filter::path(field), None, limit.max(1)).await
    }

    /// Number of products, where there are few enough items for that.
    pub(crate) async fn product_count(&self, items: usize) -> Result<Option<usize>, IndexError> {
        if items > ITEMS_FEW {
            return Ok(None);
        }
        Ok(Some(self.facet(filter::PRODUCT.into(), None, ITEMS_FEW).await?.len()))
    }
}
