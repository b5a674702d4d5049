//! What is replaced all the time is there all the time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use dfml_index::{EmbeddedIndex, Item, OpenOptions, SearchRequest, VectorIndex};
use tempfile::TempDir;

const DIM: usize = 8;
/// Times that the product is replaced.
const ROUNDS: usize = 200;

fn item(id: &str, product: &str, number: usize) -> Item {
    let mut vector = vec![0.0; DIM];
    (vector[number % DIM], vector[(number + 1) % DIM]) = (0.6, 0.8);
    Item { id: id.into(), product_id: product.into(), vector, ..Item::default() }
}

#[test]
fn a_product_that_is_replaced_is_never_without_its_items() {
    let folder = TempDir::new().expect("a folder");
    let options = OpenOptions { create: true, ..OpenOptions::new(DIM, "model") };
    let index = EmbeddedIndex::open(folder.path(), options).expect("opens");
    let others = (0..DIM).map(|number| item(&format!("other {number}"), &format!("q{number}"), number));
    index.upsert(others.collect()).expect("writes");
    let chair = |round: usize| vec![item("front", "chair", round), item("back", "chair", round + 3)];
    index.upsert(chair(0)).expect("writes");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let read = || {
            let mut reads = 0usize;
            while !done.load(Ordering::Relaxed) {
                let items = index.product("chair").expect("reads");
                let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
                assert_eq!(ids, ["front", "back"], "all of them, oldest first");
                // As an example it is found, and not by itself.
                let hits = index.search(&SearchRequest::like_product("chair")).expect("it is there");
                assert!(hits.iter().all(|hit| hit.product_id != "chair"), "{hits:?}");
                for group_by_product in [false, true] {
                    let request = SearchRequest { group_by_product, ..SearchRequest::like_item("front") };
                    let hits = index.search(&request).expect("it is there");
                    assert!(hits.iter().all(|hit| hit.item_id != "front"), "{hits:?}");
                    assert!(!hits.is_empty());
                }
                reads += 1;
            }
            reads
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        for round in 1..=ROUNDS {
            index.upsert(chair(round)).expect("writes");
        }
        done.store(true, Ordering::Relaxed);
        let reads: usize = readers.into_iter().map(|reader| reader.join().expect("reads")).sum();
        assert!(reads > 0, "nobody has read");
    });
}
