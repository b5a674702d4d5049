//! A store that is filled without being searched, and what opens it afterwards.

use dfml_index::{
    EmbeddedIndex, IndexError, Item, ItemStore, OpenOptions, SearchRequest, StoreWriter, Tuning,
    synthetic::clustered,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tempfile::TempDir;

const DIM: usize = 16;
const COUNT: usize = 3000;

fn options() -> OpenOptions {
    // With more than a thousand items a graph is kept.
    let tuning = Tuning { exact_up_to: 1000, ..Tuning::default() };
    OpenOptions { create: true, tuning, ..OpenOptions::new(DIM, "model") }
}

#[test]
fn what_was_filled_in_is_searched_by_a_graph_that_is_there_at_once() {
    let folder = TempDir::new().expect("a folder");
    let set = clustered(COUNT, 1, DIM, 9);
    let item = |number: usize| Item {
        id: format!("item {number}"),
        product_id: "p".into(),
        vector: set.vectors[number * DIM..][..DIM].to_vec(),
        ..Item::default()
    };
    let store = StoreWriter::open(folder.path(), &options()).expect("is made");
    for start in (0..COUNT).step_by(700) {
        store.upsert((start..COUNT.min(start + 700)).map(item).collect()).expect("writes");
    }
    // Once more with another vector: the later one stays.
    store.upsert(vec![Item { vector: item(9).vector, ..item(7) }]).expect("writes");
    assert_eq!(store.count().expect("counts"), COUNT);
    assert_eq!(store.get("item 7").expect("reads").expect("is there").vector, item(9).vector);
    assert_eq!(store.get("nothing").expect("reads"), None);
    let broken = store.upsert(vec![Item { vector: vec![1.0], ..item(1) }]);
    assert!(matches!(broken, Err(IndexError::InvalidItem { .. })), "{broken:?}");
    let open = || EmbeddedIndex::open(folder.path(), options());
    assert!(matches!(open().err(), Some(IndexError::InUse { .. })), "one process at a time writes");
    drop(store);

    open().expect("opens").settle();
    let index = open().expect("opens");
    let graph = index.info().graph.expect("it was saved");
    assert_eq!(graph.items, COUNT);
    let found = dfml_index::VectorIndex::search(&index, &SearchRequest::new(item(42).vector));
    assert_eq!(found.expect("searches")[0].item_id, "item 42");
    let before = index.info().generation;
    index.settle();
    assert_eq!(index.info().generation, before, "nothing was left to do");
}

#[test]
fn numbers_come_back_to_the_last_bit() {
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let drawn =
        std::iter::repeat_with(|| f64::from_bits(random.random())).filter(|number| number.is_finite());
    let mut numbers: Vec<f64> = drawn.take(2000).collect();
    numbers.extend([0.1 + 0.2, 1.0 / 3.0, 4.35, 1e23, f64::MIN_POSITIVE, f64::MAX, -0.0]);
    let mut vector = vec![0.0; DIM];
    vector[3] = 1.0;
    let metadata = json!({ "price": 0.1 + 0.2, "numbers": numbers }).as_object().cloned().expect("an object");
    let item = Item { id: "a".into(), product_id: "p".into(), vector, metadata };
    let folder = TempDir::new().expect("a folder");
    let store = StoreWriter::open(folder.path(), &options()).expect("is made");
    store.upsert(vec![item.clone()]).expect("writes");
    let found = store.get("a").expect("reads").expect("is there");
    assert!(found.is_same(&item), "what is filled in again is found unchanged");
    let bits = |item: &Item| -> Vec<u64> {
        let numbers = item.metadata["numbers"].as_array().expect("a list");
        numbers.iter().map(|number| number.as_f64().expect("a number").to_bits()).collect()
    };
    assert_eq!(bits(&found), bits(&item));
}
