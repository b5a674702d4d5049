//! What only one process may do at a time.

use std::time::{Duration, Instant};

use dfml_index::{Lease, OpenOptions, VectorIndex};
use dfml_qdrant::QdrantIndex;
use dfml_tests::engine::{self, Engine};

use crate::place::{DIM, MODEL, Place};

#[test]
fn one_that_is_alone_has_it_at_once() {
    for place in Place::all() {
        let index = place.open();
        let lease = index.lease("jobs").expect("asks").expect("nobody else has it");
        assert!(lease.is_held(), "{}", place.name);
    }
}

#[test]
fn of_many_that_want_it_one_has_it() {
    let engine = Engine::start();
    let options = engine::options(&engine.url(), "shop");
    let open = || {
        QdrantIndex::open(&options, &OpenOptions { create: true, ..OpenOptions::new(DIM, MODEL) })
            .expect("opens")
    };
    let indexes: Vec<QdrantIndex> = (0..4).map(|_| open()).collect();
    let taken: Vec<Option<Box<dyn Lease>>> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            indexes.iter().map(|index| scope.spawn(|| index.lease("jobs").expect("asks"))).collect();
        asking.into_iter().map(|asking| asking.join().expect("no panic")).collect()
    });
    assert_eq!(taken.iter().flatten().count(), 1, "one of four");
    assert!(indexes[0].lease("other").expect("asks").is_some(), "another one is free");
    drop(taken);
    // It is given back in the background.
    let start = Instant::now();
    while indexes[2].lease("jobs").expect("asks").is_none() {
        assert!(start.elapsed() < Duration::from_secs(5), "given back when dropped");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn that_of_a_process_that_died_ends_by_itself() {
    let engine = Engine::start();
    let options = engine::options(&engine.url(), "shop");
    let open = || {
        QdrantIndex::open(&options, &OpenOptions { create: true, ..OpenOptions::new(DIM, MODEL) })
            .expect("opens")
    };
    let (dying, other) = (open(), open());
    // Neither given back nor renewed: its threads end with the index.
    std::mem::forget(dying.lease("jobs").expect("asks").expect("free"));
    drop(dying);
    let start = Instant::now();
    while other.lease("jobs").expect("asks").is_none() {
        assert!(start.elapsed() < Duration::from_secs(50), "it ends after its term and the slack");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(start.elapsed() > Duration::from_secs(20), "not before its term: {:?}", start.elapsed());
}
