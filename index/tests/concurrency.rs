//! Eight writers and eight readers on one index while generations are rebuilt: no write is lost, nothing deadlocks.
//!
//! `DFML_INDEX_CONCURRENCY_SECONDS=60` runs it for a minute; the suite runs it for a few seconds.

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dfml_index::{
    EmbeddedIndex, Filter, Item, OpenOptions, SearchRequest, Tuning, VectorIndex, synthetic::clustered,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tempfile::TempDir;

const DIM: usize = 24;
const WRITERS: usize = 8;
const READERS: usize = 8;
/// Ids of each writer.
const IDS: usize = 500;
const SECONDS: u64 = 6;

#[test]
fn writers_and_readers_do_not_hinder_each_other() {
    let seconds =
        env::var("DFML_INDEX_CONCURRENCY_SECONDS").map_or(SECONDS, |text| text.parse().expect("seconds"));
    let set = clustered(WRITERS * IDS, 64, DIM, 5);
    let vector = |number: usize| set.vectors[number * DIM..][..DIM].to_vec();
    let folder = TempDir::new().expect("a folder");
    // Low bounds, so that graphs are built and built again all the time.
    let tuning = Tuning {
        exact_up_to: 500,
        rebuild_share: 0.1,
        effort: 12,
        links: 8,
        build_effort: 32,
        ..Tuning::default()
    };
    let options = OpenOptions { create: true, tuning, ..OpenOptions::new(DIM, "model") };
    let index = EmbeddedIndex::open(folder.path(), options.clone()).expect("opens");
    let item = |writer: usize, number: usize, step: u64| Item {
        id: format!("{writer}/{number}"),
        product_id: format!("product {writer}/{}", number / 4),
        vector: vector((writer * IDS + number + step as usize) % (WRITERS * IDS)),
        metadata: json!({"writer": writer, "step": step}).as_object().cloned().expect("an object"),
    };
    let stop = AtomicBool::new(false);
    let (writes, generations) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let latencies: Mutex<Vec<Duration>> = Mutex::default();
    let expected: Vec<BTreeMap<String, Item>> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (index, stop, writes) = (&index, &stop, &writes);
                scope.spawn(move || {
                    let mut random = ChaCha8Rng::seed_from_u64(writer as u64);
                    let mut mine: BTreeMap<String, Item> = BTreeMap::new();
                    let mut step = 0;
                    while !stop.load(Ordering::Relaxed) {
                        step += 1;
                        let number = random.random_range(0..IDS);
                        if step % 5 == 0 {
                            let id = format!("{writer}/{number}");
                            let there = usize::from(mine.remove(&id).is_some());
                            assert_eq!(index.delete(&[id]).expect("deletes"), there);
                        } else {
                            let items: Vec<Item> =
                                (0..8).map(|next| item(writer, (number + next * 61) % IDS, step)).collect();
                            mine.extend(items.iter().map(|item| (item.id.clone(), item.clone())));
                            index.upsert(items).expect("writes");
                            // What was acknowledged is found.
                            let fresh = item(writer, number, step);
                            let request = SearchRequest { exact: true, ..SearchRequest::new(fresh.vector) };
                            let hits = index.search(&request).expect("searches");
                            assert!(hits[0].score > 0.999, "{hits:?}");
                        }
                        writes.fetch_add(1, Ordering::Relaxed);
                    }
                    mine
                })
            })
            .collect();
        for reader in 0..READERS {
            let (index, stop, set, latencies) = (&index, &stop, &set, &latencies);
            scope.spawn(move || {
                let mut random = ChaCha8Rng::seed_from_u64(100 + reader as u64);
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let query = random.random_range(0..64);
                    let mut request = SearchRequest::new(set.queries[query * DIM..][..DIM].to_vec());
                    let writer = random.random_range(0..2 * WRITERS);
                    if writer < WRITERS {
                        request.filter = Some(Filter::range("writer", writer as f64, writer as f64));
                    }
                    request.exact = random.random_bool(0.1);
                    let start = Instant::now();
                    let hits = index.search(&request).expect("searches");
                    took.push(start.elapsed());
                    assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
                    let fits = |hit: &dfml_index::Hit| hit.metadata["writer"] == json!(writer);
                    assert!(writer >= WRITERS || hits.iter().all(fits), "{hits:?}");
                }
                latencies.lock().expect("no reader panics").extend(took);
            });
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
            generations.store(index.info().generation as usize, Ordering::Relaxed);
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().expect("no writer panics")).collect()
    });
    let mut took = latencies.into_inner().expect("no reader panics");
    took.sort_unstable();
    let at = |share: f64| took[(took.len() as f64 * share) as usize];
    println!(
        "{seconds} s: {} writes, {} generations, {} reads: p50 {:?}, p99 {:?}, slowest {:?}",
        writes.load(Ordering::Relaxed),
        generations.load(Ordering::Relaxed),
        took.len(),
        at(0.5),
        at(0.99),
        took[took.len() - 1]
    );
    assert!(generations.load(Ordering::Relaxed) > 0, "there were no rebuilds");

    let check = |index: &EmbeddedIndex| {
        let all: BTreeMap<String, Item> =
            expected.iter().flatten().map(|(id, item)| (id.clone(), item.clone())).collect();
        let found = index.page(None, usize::MAX).expect("reads");
        assert_eq!(found.len(), all.len());
        assert_eq!(index.count(), all.len());
        assert!(found.iter().all(|item| all.get(&item.id) == Some(item)), "an update was lost");
        let every = SearchRequest { k: usize::MAX, ..SearchRequest::new(vector(0)) };
        assert_eq!(index.search(&every).expect("searches").len(), all.len(), "memory has what the store has");
    };
    check(&index);
    drop(index);
    check(&EmbeddedIndex::open(folder.path(), options).expect("opens"));
}
