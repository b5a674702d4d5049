//! The graph behind the index: what it finds, what it must not return, and what survives a restart.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use dfml_index::{
    EmbeddedIndex, Filter, GraphBuilder, Hit, Item, OpenOptions, SearchMode, SearchRequest, Tuning,
    VectorIndex,
    synthetic::{Clustered, clustered},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tempfile::TempDir;

const DIM: usize = 32;
const COUNT: usize = 6000;
const SNAPSHOT: &str = "graph.snapshot";

fn set() -> Clustered {
    clustered(COUNT, 60, DIM, 11)
}

fn item(set: &Clustered, number: usize) -> Item {
    Item {
        id: format!("item {number}"),
        product_id: format!("product {}", set.products[number]),
        vector: set.vectors[number * DIM..][..DIM].to_vec(),
        metadata: json!({"tenth": number % 10, "half": number % 2}).as_object().cloned().expect("an object"),
    }
}

fn open(folder: &Path) -> EmbeddedIndex {
    let tuning = Tuning {
        exact_up_to: 1000,
        links: 12,
        build_effort: 64,
        effort: 40,
        probe_share: 0.0,
        ..Tuning::default()
    };
    EmbeddedIndex::open(folder, OpenOptions { create: true, tuning, ..OpenOptions::new(DIM, "model") })
        .expect("opens")
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn filled(folder: &Path, set: &Clustered) -> EmbeddedIndex {
    let index = open(folder);
    index.upsert((0..COUNT).map(|number| item(set, number)).collect()).expect("writes");
    index.compact().expect("compacts");
    let info = index.info();
    assert_eq!((info.mode, info.graph.map(|graph| graph.items)), (SearchMode::Graph, Some(COUNT)));
    index
}

fn request(set: &Clustered, query: usize) -> SearchRequest {
    SearchRequest::new(set.queries[query * DIM..][..DIM].to_vec())
}

fn ids(hits: &[Hit]) -> HashSet<&str> {
    hits.iter().map(|hit| hit.item_id.as_str()).collect()
}

/// Mean recall of graph searches against exact ones of the same index, and the number of results of each.
fn recall(index: &EmbeddedIndex, set: &Clustered, change: impl Fn(SearchRequest) -> SearchRequest) -> f64 {
    let mut sum = 0.0;
    for query in 0..60 {
        let graph = change(request(set, query));
        let exact = SearchRequest { exact: true, ..graph.clone() };
        let (found, truth) =
            (index.search(&graph).expect("searches"), index.search(&exact).expect("searches"));
        assert_eq!(found.len(), truth.len());
        sum += ids(&found).intersection(&ids(&truth)).count() as f64 / truth.len() as f64;
    }
    sum / 60.0
}

#[test]
fn finds_nearly_all_of_the_nearest() {
    let (folder, set) = (TempDir::new().expect("a folder"), set());
    let index = filled(folder.path(), &set);
    let plain = recall(&index, &set, |request| request);
    assert!(plain > 0.97, "{plain}");
    let wide = recall(&index, &set, |request| SearchRequest { effort: Some(90), ..request });
    assert!(wide > 0.995, "{wide}");
    let half = Filter::range("half", 1.0, None);
    let filtered = recall(&index, &set, |request| SearchRequest { filter: Some(half.clone()), ..request });
    assert!(filtered > 0.97, "{filtered}");
    let few = Filter::range("tenth", None, 0.0);
    let few = recall(&index, &set, |request| SearchRequest { filter: Some(few.clone()), ..request });
    assert_eq!(few, 1.0, "few enough to compare with each");
    let products = recall(&index, &set, |request| SearchRequest { group_by_product: true, ..request });
    assert!(products > 0.9, "{products}");
    for query in 0..60 {
        let request = SearchRequest { group_by_product: true, ..request(&set, query) };
        let hits = index.search(&request).expect("searches");
        let products: HashSet<&str> = hits.iter().map(|hit| hit.product_id.as_str()).collect();
        assert_eq!(products.len(), 10);
    }
}

#[test]
fn a_graph_of_the_other_builder_is_searched_as_well() {
    let (folder, set) = (TempDir::new().expect("a folder"), set());
    let tuning =
        Tuning { exact_up_to: 1000, builder: GraphBuilder::HnswRs, probe_share: 0.0, ..Tuning::default() };
    let options = OpenOptions { create: true, tuning, ..OpenOptions::new(DIM, "model") };
    let index = EmbeddedIndex::open(folder.path(), options).expect("opens");
    index.upsert((0..COUNT).map(|number| item(&set, number)).collect()).expect("writes");
    index.compact().expect("compacts");
    assert_eq!(index.info().mode, SearchMode::Graph);
    let found = recall(&index, &set, |request| request);
    assert!(found > 0.97, "{found}");
}

/// Deletes, upserts and rebuilds in random order; after each, what must hold however good the graph is.
#[test]
fn deleted_items_never_return_and_fresh_ones_are_found_at_once() {
    let (folder, set) = (TempDir::new().expect("a folder"), set());
    let mut index = filled(folder.path(), &set);
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let mut alive: HashMap<String, usize> =
        (0..COUNT).map(|number| (format!("item {number}"), number)).collect();
    for round in 0..24 {
        // Whole neighbourhoods at a time: the hardest case for a graph.
        let around = index.search(&SearchRequest { k: 150, ..request(&set, round) }).expect("searches");
        let gone: Vec<String> = around.into_iter().map(|hit| hit.item_id).collect();
        assert_eq!(index.delete(&gone).expect("deletes"), gone.len());
        for id in &gone {
            alive.remove(id);
        }
        let back: Vec<usize> = (0..60).map(|_| random.random_range(0..COUNT)).collect();
        index.upsert(back.iter().map(|&number| item(&set, number)).collect()).expect("writes");
        alive.extend(back.iter().map(|&number| (format!("item {number}"), number)));
        match round % 8 {
            3 => index.compact().expect("compacts"),
            5 => {
                drop(index);
                index = open(folder.path());
                assert_eq!(index.info().mode, SearchMode::Graph, "the snapshot was taken up");
            }
            _ => {}
        }
        assert_eq!(index.count(), alive.len());
        for query in 0..60 {
            let hits = index.search(&request(&set, query)).expect("searches");
            assert_eq!(hits.len(), 10);
            assert_eq!(ids(&hits).len(), 10);
            assert!(hits.iter().all(|hit| alive.contains_key(&hit.item_id)), "round {round}: {hits:?}");
            assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
        }
        for &number in &back {
            let hits = index.search(&SearchRequest::new(item(&set, number).vector)).expect("searches");
            assert!(ids(&hits).contains(&*format!("item {number}")), "round {round}: item {number}");
        }
    }
    let left = recall(&index, &set, |request| request);
    assert!(left > 0.95, "{left}");
}

#[test]
fn the_graph_is_built_in_the_background_and_taken_up_at_the_next_start() {
    let (folder, set) = (TempDir::new().expect("a folder"), set());
    let index = open(folder.path());
    index.upsert((0..900).map(|number| item(&set, number)).collect()).expect("writes");
    assert_eq!(index.info().mode, SearchMode::Exact, "few enough to compare with each");
    index.upsert((900..2000).map(|number| item(&set, number)).collect()).expect("writes");
    wait("the first graph", || index.info().mode == SearchMode::Graph);
    index.upsert((2000..2100).map(|number| item(&set, number)).collect()).expect("writes");
    let before = index.info().graph.expect("a graph");
    assert_eq!((before.items, before.fresh), (2000, 100));
    drop(index);

    let index = open(folder.path());
    assert_eq!(index.info().graph, Some(before), "as it was, without building");
    drop(index);

    // A damaged snapshot is built again.
    let path = folder.path().join(SNAPSHOT);
    let mut bytes = std::fs::read(&path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    std::fs::write(&path, &bytes).expect("writes");
    let index = open(folder.path());
    wait("the graph built again", || index.info().mode == SearchMode::Graph);
    assert_eq!(index.info().graph.map(|graph| graph.items), Some(2100));
    drop(index);

    // One of another store is not taken up: the same rows, but other vectors.
    let other = TempDir::new().expect("a folder");
    let index = open(other.path());
    index.upsert((3000..5100).map(|number| item(&set, number)).collect()).expect("writes");
    drop(index);
    std::fs::copy(&path, other.path().join(SNAPSHOT)).expect("copies");
    let index = open(other.path());
    wait("its own graph", || index.info().mode == SearchMode::Graph);
    let found = index.search(&SearchRequest::new(item(&set, 4000).vector)).expect("searches");
    assert_eq!(found[0].item_id, "item 4000");
}

#[test]
fn recall_is_measured_while_serving_and_effort_follows() {
    let (folder, set) = (TempDir::new().expect("a folder"), set());
    drop(filled(folder.path(), &set));
    let tuning = Tuning {
        exact_up_to: 1000,
        effort: 10,
        probe_share: 1.0,
        recall_floor: Some(0.98),
        ..Tuning::default()
    };
    let options = OpenOptions { tuning, ..OpenOptions::new(DIM, "model") };
    let index = EmbeddedIndex::open(folder.path(), options).expect("opens");
    assert_eq!((index.info().effort, index.info().recall), (10, None));
    let start = Instant::now();
    while index.info().effort == 10 {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", index.info());
        for query in 0..60 {
            index.search(&request(&set, query)).expect("searches");
        }
    }
    let info = index.info();
    assert!(info.effort > 10, "an effort of 10 cannot hold the floor: {info:?}");
    let recall = info.recall.expect("there are samples");
    assert!(recall.samples >= 32 && recall.recall > 0.5 && recall.recall < 0.98, "{recall:?}");
}
