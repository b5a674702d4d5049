//! Clusters of near-identical items: pairs above a similarity, joined.

mod report;

use std::collections::BTreeMap;

use dfml_index::{Example, IndexError, SearchRequest, VectorIndex};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub use report::write_html;

/// Neighbours that are looked at for each item. A larger cluster is still found whole, link by link.
const NEIGHBOURS: usize = 24;
/// Items asked about at a time.
const PAGE_ITEMS: usize = 64;

/// Which items count as duplicates of each other: above one of the two limits, exactly one of which has to be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DuplicatesSpec {
    /// Least probability that two items show the same product; needs a calibrated model.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub min_probability: Option<f64>,
    /// Least cosine similarity.
    #[schema(minimum = -1.0, maximum = 1.0)]
    pub threshold: Option<f64>,
    /// Only clusters with items of two products or more: the same thing under two names.
    #[serde(default)]
    pub across_products: bool,
}

/// Items that are near-identical, directly or through others of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// Least and greatest similarity of the pairs that hold it together.
    pub similarity: [f32; 2],
    /// Products in it.
    pub products: usize,
    /// Its items, in order of their ids.
    pub items: Vec<Member>,
}

/// An item of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its id.
    pub item_id: String,
    /// The product that it shows.
    pub product_id: String,
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where its picture is, relative to the image folder, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Finds the clusters, largest first. `step` is told how many items have been looked at since the last call, and stops the search by
/// returning false: what was found by then is returned.
///
/// # Errors
/// The index failed.
pub fn find(
    index: &dyn VectorIndex,
    threshold: f32,
    across_products: bool,
    mut step: impl FnMut(usize) -> bool,
) -> Result<Vec<Cluster>, IndexError> {
    let mut graph = Graph::default();
    let mut after = None::<String>;
    loop {
        let page = index.page(after.as_deref(), PAGE_ITEMS)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        let request = |vector: &[f32]| SearchRequest {
            positive: vec![Example::Vector(vector.to_vec())],
            k: NEIGHBOURS,
            threshold: Some(threshold),
            ..SearchRequest::default()
        };
        let requests: Vec<SearchRequest> = page.iter().map(|item| request(&item.vector)).collect();
        let count = page.len();
        for (item, hits) in page.into_iter().zip(index.search_many(&requests)?) {
            // An item that is near to none takes no memory.
            for hit in hits.into_iter().filter(|hit| hit.item_id != item.id) {
                let one = graph.node(&item.id, || member(&item.id, &item.product_id, &item.metadata));
                let other = graph.node(&hit.item_id, || member(&hit.item_id, &hit.product_id, &hit.metadata));
                graph.join(one, other, hit.score);
            }
        }
        if !step(count) {
            break;
        }
    }
    Ok(graph.clusters(across_products))
}

fn member(item_id: &str, product_id: &str, metadata: &Map<String, Value>) -> Member {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
    Member {
        item_id: item_id.to_owned(),
        product_id: product_id.to_owned(),
        name: text("name"),
        path: text("path"),
    }
}

/// Items that are near to another one, and which of them are joined: a union-find forest.
#[derive(Default)]
struct Graph {
    numbers: BTreeMap<String, usize>,
    members: Vec<Member>,
    parents: Vec<usize>,
    /// Of each root, least and greatest similarity of the pairs that it was joined by. The pairs themselves would be many times as many as
    /// the items.
    similarities: Vec<[f32; 2]>,
}

impl Graph {
    fn node(&mut self, id: &str, member: impl FnOnce() -> Member) -> usize {
        if let Some(&number) = self.numbers.get(id) {
            return number;
        }
        let number = self.members.len();
        self.numbers.insert(id.to_owned(), number);
        self.members.push(member());
        self.parents.push(number);
        self.similarities.push([f32::INFINITY, f32::NEG_INFINITY]);
        number
    }

    fn join(&mut self, one: usize, other: usize, score: f32) {
        let (a, b) = (self.root(one), self.root(other));
        let (root, child) = (a.min(b), a.max(b));
        let [least, most] = self.similarities[child];
        self.parents[child] = root;
        let similarity = &mut self.similarities[root];
        *similarity = [similarity[0].min(least).min(score), similarity[1].max(most).max(score)];
    }

    fn root(&mut self, node: usize) -> usize {
        let mut root = node;
        while self.parents[root] != root {
            self.parents[root] = self.parents[self.parents[root]];
            root = self.parents[root];
        }
        root
    }

    fn clusters(mut self, across_products: bool) -> Vec<Cluster> {
        let mut members: Vec<Option<Member>> =
            std::mem::take(&mut self.members).into_iter().map(Some).collect();
        let mut clusters: BTreeMap<usize, Cluster> = BTreeMap::new();
        let numbers: Vec<usize> = std::mem::take(&mut self.numbers).into_values().collect();
        for number in numbers {
            let root = self.root(number);
            let similarity = self.similarities[root];
            let cluster = clusters.entry(root).or_insert_with(|| Cluster {
                similarity,
                products: 0,
                items: Vec::new(),
            });
            cluster.items.extend(members[number].take());
        }
        let mut clusters: Vec<Cluster> = clusters.into_values().collect();
        for cluster in &mut clusters {
            let mut products: Vec<&str> = cluster.items.iter().map(|item| item.product_id.as_str()).collect();
            products.sort_unstable();
            products.dedup();
            cluster.products = products.len();
        }
        clusters.retain(|cluster| !across_products || cluster.products > 1);
        clusters.sort_by(|a, b| {
            b.items.len().cmp(&a.items.len()).then_with(|| a.items[0].item_id.cmp(&b.items[0].item_id))
        });
        clusters
    }
}

#[cfg(test)]
mod tests {
    use dfml_index::{EmbeddedIndex, Item, OpenOptions};

    use super::*;

    /// A unit vector at this angle, in degrees.
    fn at(degrees: f32) -> Vec<f32> {
        vec![degrees.to_radians().cos(), degrees.to_radians().sin()]
    }

    #[test]
    fn chains_are_joined_and_strangers_are_not() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let options = OpenOptions { create: true, ..OpenOptions::new(2, "m") };
        let index = EmbeddedIndex::open(folder.path(), options).expect("a new index");
        let item = |id: &str, product: &str, degrees: f32| Item {
            id: id.into(),
            product_id: product.into(),
            vector: at(degrees),
            ..Item::default()
        };
        // a-b-c is a chain of 4 degrees a link: a and c alone would be too far apart at 5.
        index
            .upsert(vec![
                item("a", "chair", 0.0),
                item("b", "chair", 4.0),
                item("c", "stool", 8.0),
                item("d", "lamp", 60.0),
                item("e", "lamp", 61.0),
                item("f", "table", 120.0),
            ])
            .expect("stored");
        let threshold = 5f32.to_radians().cos();
        let mut looked_at = 0;
        let clusters = find(&index, threshold, false, |count| {
            looked_at += count;
            true
        })
        .expect("found");
        let ids: Vec<Vec<&str>> = clusters
            .iter()
            .map(|cluster| cluster.items.iter().map(|item| item.item_id.as_str()).collect())
            .collect();
        assert_eq!(ids, [vec!["a", "b", "c"], vec!["d", "e"]]);
        assert_eq!((clusters[0].products, clusters[1].products, looked_at), (2, 1, 6));
        let [least, most] = clusters[0].similarity;
        let link = 4f32.to_radians().cos();
        assert!((least - link).abs() < 1e-5 && (most - link).abs() < 1e-5, "{least} {most}");

        let across = find(&index, threshold, true, |_| true).expect("found");
        assert_eq!(across.len(), 1);
        assert!(find(&index, threshold, false, |_| false).expect("stopped").len() <= 2);
    }
}
