//! A full disk: nothing acknowledged is lost, searches go on, and so does writing when there is room again.
//!
//! A limit on the size of files stands for the disk. It is for the whole process, so this file has one test.

#![cfg(target_os = "linux")]

use std::{
    fs,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use dfml_index::{EmbeddedIndex, IndexError, Item, OpenOptions, SearchRequest, VectorIndex};
use serde_json::json;
use tempfile::TempDir;

const DIM: usize = 4;
const BATCH: usize = 10;

/// Has files become no larger than this; `None` for no bound.
fn allow(bytes: Option<u64>) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the calls write and read this struct, no more.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit), 0);
        limit.rlim_cur = bytes.unwrap_or(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

fn items(numbers: Range<usize>) -> Vec<Item> {
    let item = |number: usize| {
        let mut vector = vec![0.0; DIM];
        vector[number % DIM] = 1.0;
        let metadata = json!({ "text": format!("{number} ").repeat(1000) });
        Item {
            id: format!("item {number:05}"),
            product_id: format!("product {}", number / 3),
            vector,
            metadata: metadata.as_object().cloned().expect("an object"),
        }
    };
    numbers.map(item).collect()
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_full_disk_stops_only_writing_and_only_while_it_is_full() {
    // SAFETY: it is ignored, so that writing beyond the limit is an error and not the end of the process.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let folder = TempDir::new().expect("a folder");
    let options = OpenOptions { create: true, ..OpenOptions::new(DIM, "model") };
    let index = EmbeddedIndex::open(folder.path(), options.clone()).expect("opens");
    index.upsert(items(0..100)).expect("writes");
    let size = fs::metadata(folder.path().join("catalogue.redb")).expect("is there").len();
    allow(Some(size));

    // Until the room inside the file is used up.
    let mut stored = 100;
    let failed = loop {
        match index.upsert(items(stored..stored + BATCH)) {
            Ok(()) => stored += BATCH,
            Err(error) => break error,
        }
        assert!(stored < 20_000, "the limit does not hold");
    };
    assert!(matches!(failed, IndexError::Commit { .. }), "{failed}");
    // The next is told at once that the storage has failed, or tried again where a while has passed.
    match index.upsert(items(stored..stored + BATCH)) {
        Err(IndexError::Unavailable { detail, .. }) => assert!(detail.contains("make room"), "{detail}"),
        Err(IndexError::Commit { .. }) => {}
        other => panic!("{other:?}"),
    }

    let all = SearchRequest { k: usize::MAX, ..SearchRequest::new(vec![1.0; DIM]) };
    let found = || index.search(&all).map_or(0, |hits| hits.len());
    wait("searches go on though the disk is full", || index.check().is_ok() && found() == stored);
    assert_eq!(index.page(None, usize::MAX).expect("reads"), items(0..stored));
    assert_eq!(index.product("product 0").expect("reads").len(), 3);

    allow(None);
    wait("writing goes on", || index.upsert(items(stored..stored + BATCH)).is_ok());
    stored += BATCH;
    index.check().expect("all is well");
    index.delete(&["item 00000".to_owned()]).expect("deletes");
    let expected = items(1..stored);
    assert_eq!((index.count(), found()), (expected.len(), expected.len()));
    assert_eq!(index.page(None, usize::MAX).expect("reads"), expected);
    drop(index);
    let index = EmbeddedIndex::open(folder.path(), options).expect("opens");
    assert_eq!(index.page(None, usize::MAX).expect("reads"), expected);
}
