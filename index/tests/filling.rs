//! A store that is filled without being searched, and what opens it afterwards.

use dfml_index::{
    EmbeddedIndex, IndexError, Item, ItemStore, OpenOptions, SearchRequest, StoreWriter, Tuning,
    synthetic::clustered,
};
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
