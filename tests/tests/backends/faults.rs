//! Connections cut at every moment, writes applied by half, an engine that dies.

use std::time::{Duration, Instant};

use dfml_index::{IndexError, Item, OpenOptions, Patch, VectorIndex};
use dfml_qdrant::{QdrantIndex, QdrantOptions};
use dfml_tests::{
    engine::{self, Engine},
    proxy::{Break, Proxy},
};
use serde_json::json;

use crate::{
    place::{DIM, MODEL},
    truth::Dice,
};

/// Bytes of a chunk that carries points, or ids, rather than the protocol's own frames.
const POINTS: usize = 8000;
const IDS: usize = 600;

fn open(options: &QdrantOptions) -> QdrantIndex {
    QdrantIndex::open(options, &OpenOptions { create: true, ..OpenOptions::new(DIM, MODEL) }).expect("opens")
}

fn items(seed: u64, count: usize) -> Vec<Item> {
    let mut dice = Dice::new(seed);
    (0..count).map(|number| dice.item(number)).collect()
}

/// Exactly these items, and no other.
fn check(index: &QdrantIndex, expected: &[Item], what: &str) {
    assert_eq!(index.count().expect("counts"), expected.len(), "{what}");
    for item in expected {
        let found = index.get(&item.id).expect("reads");
        assert!(found.as_ref().is_some_and(|found| found.is_same(item)), "{what}: {found:?} for {item:?}");
    }
}

fn patches(count: usize) -> Vec<Patch> {
    let change = json!({"category": "changed", "width": null, "long": "x".repeat(500)});
    let patch = |number| Patch {
        ids: [format!("item {number}")].into(),
        metadata: change.as_object().cloned().expect("an object"),
    };
    (0..count).map(patch).collect()
}

fn patched(mut items: Vec<Item>, count: usize) -> Vec<Item> {
    for (item, patch) in items.iter_mut().zip(patches(count)) {
        item.metadata = patch.merged(&item.id, &item.metadata).expect("it fits");
    }
    items
}

/// Changes so many items.
fn patch(index: &QdrantIndex, count: usize, what: &str) {
    let outcomes = index.patch(patches(count)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let done = outcomes.iter().filter(|outcome| matches!(outcome, Ok(1))).count();
    assert_eq!(done, count, "{what}: {outcomes:?}");
}

#[test]
fn a_write_whose_connection_is_cut_comes_to_the_same_end() {
    let engine = Engine::start();
    let proxy = Proxy::start(engine.address());
    let direct = open(&engine::options(&engine.url(), "shop"));
    // One connection, so that the one that is cut is the one in use.
    let index =
        open(&QdrantOptions { connections: 1, batch_size: 32, ..engine::options(&proxy.url(), "shop") });
    let mut cuts = 0;
    for (round, next) in [Break::Before, Break::Within, Break::After].into_iter().enumerate() {
        let written = items(100 + round as u64, 150);
        proxy.set(next, POINTS);
        index.upsert(written.clone()).unwrap_or_else(|error| panic!("{next:?}: {error}"));
        check(&direct, &written, &format!("upsert, {next:?}"));

        proxy.set(next, POINTS);
        patch(&index, 40, &format!("patch, {next:?}"));
        check(&direct, &patched(written, 40), &format!("patch, {next:?}"));

        proxy.set(next, IDS);
        let gone: Vec<String> = (0..100).map(|number| format!("item {number}")).collect();
        index.delete(&gone).unwrap_or_else(|error| panic!("{next:?}: {error}"));
        assert_eq!(direct.count().expect("counts"), 50, "delete, {next:?}");
        assert!(proxy.cut() >= cuts + 3, "{next:?}: each of the three was cut, {} in all", proxy.cut());
        cuts = proxy.cut();
    }
}

#[test]
fn a_write_that_the_engine_has_half_applied_comes_to_the_same_end() {
    let engine = Engine::start();
    let index = open(&engine::options(&engine.url(), "shop"));
    for (round, fault) in ["half", "after", "half 3", "after 3"].into_iter().enumerate() {
        let written = items(200 + round as u64, 150);
        engine.fault(fault);
        index.upsert(written.clone()).unwrap_or_else(|error| panic!("{fault}: {error}"));
        assert!(engine.faults_are_over(), "{fault}: it has happened");
        check(&index, &written, &format!("upsert, {fault}"));

        engine.fault(fault);
        patch(&index, 40, fault);
        assert!(engine.faults_are_over(), "{fault}: it has happened");
        check(&index, &patched(written, 40), &format!("patch, {fault}"));

        engine.fault(fault);
        let gone: Vec<String> = (0..100).map(|number| format!("item {number}")).collect();
        assert_eq!(index.delete(&gone).expect("deletes"), 100, "{fault}");
        assert!(engine.faults_are_over(), "{fault}: it has happened");
        assert_eq!(index.count().expect("counts"), 50, "delete, {fault}");
    }
}

#[test]
fn a_write_that_cannot_be_done_is_told_and_can_be_made_up_for() {
    let engine = Engine::start();
    let patience =
        QdrantOptions { retry_for_ms: 500, timeout_ms: 500, ..engine::options(&engine.url(), "shop") };
    let index = open(&patience);
    engine.fault("half 1000");
    let written = items(300, 150);
    let error = index.upsert(written.clone()).expect_err("the engine never does it wholly");
    assert!(matches!(error, IndexError::Unavailable { .. }), "{error}");
    engine.fault("");
    let index = open(&engine::options(&engine.url(), "shop"));
    index.upsert(written.clone()).expect("the same write again");
    check(&index, &written, "made up for");
}

#[test]
fn an_engine_that_was_killed_has_all_that_it_acknowledged() {
    let mut engine = Engine::start();
    let patience = QdrantOptions { retry_for_ms: 300, ..engine::options(&engine.url(), "shop") };
    let index = open(&patience);
    let mut written = Vec::new();
    for round in 0..3 {
        let some: Vec<Item> = items(400 + round, 80)
            .into_iter()
            .map(|item| Item { id: format!("{round} {}", item.id), ..item })
            .collect();
        index.upsert(some.clone()).expect("writes");
        written.extend(some);
        assert!(index.check().is_ok());
        engine.kill();
        let start = Instant::now();
        let error = index.count().expect_err("nobody is there");
        assert!(matches!(error, IndexError::Unavailable { .. }), "{error}");
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "a reader does not wait long: {:?}",
            start.elapsed()
        );
        assert!(index.check().is_err());
        assert!(matches!(index.upsert(items(1, 1)), Err(IndexError::Unavailable { .. })));
        engine.start_again();
        check(&index, &written, "after a kill");
    }
}

#[test]
fn a_write_outlives_a_restart_of_the_engine() {
    let mut engine = Engine::start();
    let index = open(&engine::options(&engine.url(), "shop"));
    engine.kill();
    let written = items(500, 100);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| index.upsert(written.clone()));
        std::thread::sleep(Duration::from_millis(700));
        engine.start_again();
        writing.join().expect("no panic").expect("it is tried until the engine is back");
    });
    check(&index, &written, "after a restart");
}
