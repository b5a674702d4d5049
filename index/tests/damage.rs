//! Torn and bit-flipped files: a damaged cache is built again, a damaged store is reported, and nothing wrong is ever answered.

use std::{collections::BTreeMap, fs, path::Path};

use dfml_index::{
    EmbeddedIndex, IndexError, Item, OpenOptions, SearchRequest, StoreReader, Tuning, VectorIndex,
    synthetic::clustered,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tempfile::TempDir;

const DIM: usize = 16;
const COUNT: usize = 700;
const STORE: &str = "catalogue.redb";
const SNAPSHOT: &str = "graph.snapshot";
const PAGE: usize = 4096;
/// Damaged stores and damaged snapshots.
const STORES: usize = 120;
const SNAPSHOTS: usize = 80;

fn options() -> OpenOptions {
    let tuning =
        Tuning { exact_up_to: 100, build_effort: 32, links: 8, probe_share: 0.0, ..Tuning::default() };
    OpenOptions { create: true, tuning, ..OpenOptions::new(DIM, "model") }
}

type Contents = BTreeMap<String, Item>;

/// A store with upserts, replacements, patches and deletions behind it, in several commits; and what is in it.
fn make(folder: &Path) -> Contents {
    let set = clustered(COUNT, 1, DIM, 3);
    let item = |number: usize, version: usize| Item {
        id: format!("item {number}"),
        product_id: format!("product {}", set.products[number]),
        vector: set.vectors[(number + version) % COUNT * DIM..][..DIM].to_vec(),
        metadata: json!({"version": version, "text": "x".repeat(number % 90)})
            .as_object()
            .cloned()
            .expect("an object"),
    };
    let index = EmbeddedIndex::open(folder, options()).expect("opens");
    let mut contents = Contents::new();
    let mut upsert = |items: Vec<Item>| {
        contents.extend(items.iter().map(|item| (item.id.clone(), item.clone())));
        index.upsert(items).expect("writes");
    };
    for start in (0..COUNT).step_by(100) {
        upsert((start..start + 100).map(|number| item(number, 0)).collect());
    }
    upsert((0..COUNT).step_by(9).map(|number| item(number, 1)).collect());
    let gone: Vec<String> = (0..COUNT).step_by(7).map(|number| format!("item {number}")).collect();
    index.delete(&gone).expect("deletes");
    gone.iter().for_each(|id| drop(contents.remove(id)));
    index.compact().expect("compacts");
    drop(index);
    // Without unused pages, so that damage hits what counts.
    EmbeddedIndex::shrink(folder).expect("shrinks");
    contents
}

/// Damages bytes in one of several ways; returns how, for messages.
fn damage(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) -> String {
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..5) {
        0 => {
            bytes[at] ^= 1 << random.random_range(0..8);
            format!("a bit of byte {at} flipped")
        }
        1 => {
            bytes.truncate(at);
            format!("cut off at {at}")
        }
        2 => {
            // A page that never reached the disk.
            let page = at / PAGE * PAGE;
            let end = (page + PAGE).min(bytes.len());
            bytes[page..end].fill(0);
            format!("the page at {page} is zeros")
        }
        3 => {
            let end = (at + random.random_range(1..64)).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte = random.random());
            format!("noise in {at}..{end}")
        }
        _ => {
            // Half of a page from elsewhere in the file.
            let from = random.random_range(0..bytes.len() - PAGE / 2);
            let to = random.random_range(0..bytes.len() - PAGE / 2);
            bytes.copy_within(from..from + PAGE / 2, to);
            format!("half a page of {from} written at {to}")
        }
    }
}

fn contents_of(index: &EmbeddedIndex) -> Contents {
    let items = index.page(None, usize::MAX).expect("reads");
    items.into_iter().map(|item| (item.id.clone(), item)).collect()
}

fn copy_folder(from: &Path) -> TempDir {
    let to = TempDir::new().expect("a folder");
    for file in [STORE, SNAPSHOT] {
        fs::copy(from.join(file), to.path().join(file)).expect("copies");
    }
    to
}

#[test]
fn a_damaged_store_is_reported_and_what_is_whole_is_recovered() {
    let original = TempDir::new().expect("a folder");
    let contents = make(original.path());
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut harmless, mut recovered_all, mut recovered_some) = (0, 0, 0);
    for case in 0..STORES {
        let folder = copy_folder(original.path());
        let path = folder.path().join(STORE);
        let mut bytes = fs::read(&path).expect("reads");
        let how = damage(&mut bytes, &mut random);
        fs::write(&path, &bytes).expect("writes");
        match EmbeddedIndex::open(folder.path(), options()) {
            // Where the damage hit nothing that counts, all must be as it was.
            Ok(index) => {
                harmless += 1;
                assert_eq!(contents_of(&index), contents, "case {case}: {how}");
                let all = SearchRequest { k: usize::MAX, ..SearchRequest::new(vec![1.0; DIM]) };
                assert_eq!(index.search(&all).expect("searches").len(), contents.len(), "case {case}: {how}");
                continue;
            }
            Err(IndexError::Damaged { .. } | IndexError::Storage { .. }) => {}
            Err(other) => panic!("case {case}: {how}: {other}"),
        }
        // Opening may have repaired what it could of the structure; the damaged bytes are what is salvaged.
        fs::write(&path, &bytes).expect("writes");
        let target = TempDir::new().expect("a folder");
        let Ok(report) = EmbeddedIndex::salvage(folder.path(), target.path().join("saved")) else { continue };
        let saved = EmbeddedIndex::open(target.path().join("saved"), options()).expect("opens");
        let found = contents_of(&saved);
        assert_eq!(report.recovered, found.len(), "case {case}: {how}");
        for (id, item) in &found {
            assert_eq!(Some(item), contents.get(id), "case {case}: {how}");
        }
        if found.len() == contents.len() {
            recovered_all += 1;
        } else {
            recovered_some += 1;
        }
    }
    println!(
        "{STORES} damaged stores: {harmless} unharmed, {recovered_all} recovered whole, {recovered_some} in part"
    );
    let noticed = STORES - harmless;
    assert!(noticed > STORES / 4, "damage to what counts is noticed");
    assert!((recovered_all + recovered_some) * 3 > noticed, "much of the damage leaves something to recover");
}

#[test]
fn a_damaged_snapshot_is_built_again() {
    let original = TempDir::new().expect("a folder");
    let contents = make(original.path());
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for case in 0..SNAPSHOTS {
        let folder = copy_folder(original.path());
        let path = folder.path().join(SNAPSHOT);
        let mut bytes = fs::read(&path).expect("reads");
        let how = damage(&mut bytes, &mut random);
        fs::write(&path, &bytes).expect("writes");
        let index = EmbeddedIndex::open(folder.path(), options()).expect("opens");
        assert_eq!(index.count(), contents.len());
        for item in contents.values().step_by(97) {
            for exact in [false, true] {
                let request = SearchRequest { exact, ..SearchRequest::new(item.vector.clone()) };
                let hits = index.search(&request).expect("searches");
                assert!(hits.iter().all(|hit| contents.contains_key(&hit.item_id)), "case {case}: {how}");
                assert!(hits[0].score > 0.999, "case {case}: {how}: {hits:?}");
            }
        }
    }
}

#[test]
fn a_store_that_has_lost_everything_is_not_taken_for_a_new_one() {
    let original = TempDir::new().expect("a folder");
    make(original.path());
    let refused = |folder: &Path, what: &str| match EmbeddedIndex::open(folder, options()) {
        Err(IndexError::Damaged { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
        Ok(index) => panic!("{what}: opened with {} items", index.count()),
    };
    for with_snapshot in [true, false] {
        let folder = copy_folder(original.path());
        if !with_snapshot {
            fs::remove_file(folder.path().join(SNAPSHOT)).expect("removes");
        }
        fs::write(folder.path().join(STORE), []).expect("writes");
        refused(folder.path(), "an empty file");
        assert!(StoreReader::open(folder.path()).is_err());
        assert!(EmbeddedIndex::shrink(folder.path()).is_err());
    }
    let folder = copy_folder(original.path());
    fs::remove_file(folder.path().join(STORE)).expect("removes");
    refused(folder.path(), "no file, but a graph");
    // What an interrupted creation leaves behind is in nobody's way.
    let fresh = TempDir::new().expect("a folder");
    fs::write(fresh.path().join("catalogue.redb.partial"), [1, 2, 3]).expect("writes");
    assert_eq!(EmbeddedIndex::open(fresh.path(), options()).expect("opens").count(), 0);
    assert!(!fresh.path().join("catalogue.redb.partial").exists());
}
