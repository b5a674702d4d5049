//! Backup, salvage, shrinking, and memory that does not grow with updates.

use std::{fs, path::Path};

use dfml_index::{
    EmbeddedIndex, IndexError, Item, OpenOptions, SearchRequest, StoreReader, VectorIndex,
    synthetic::{Clustered, clustered},
};
use tempfile::TempDir;

const DIM: usize = 16;
const COUNT: usize = 3000;

fn options() -> OpenOptions {
    OpenOptions { create: true, ..OpenOptions::new(DIM, "model") }
}

fn item(set: &Clustered, number: usize, version: usize) -> Item {
    Item {
        id: format!("item {number:05}"),
        product_id: format!("product {}", set.products[number]),
        vector: set.vectors[(number + version) % COUNT * DIM..][..DIM].to_vec(),
        ..Item::default()
    }
}

fn filled(folder: &Path) -> (EmbeddedIndex, Clustered) {
    let set = clustered(COUNT, 1, DIM, 9);
    let index = EmbeddedIndex::open(folder, options()).expect("opens");
    index.upsert((0..COUNT).map(|number| item(&set, number, 0)).collect()).expect("writes");
    (index, set)
}

#[test]
fn memory_does_not_grow_with_updates() {
    let folder = TempDir::new().expect("a folder");
    let (index, set) = filled(folder.path());
    let before = index.info();
    for version in 1..=12 {
        index.upsert((0..COUNT).map(|number| item(&set, number, version)).collect()).expect("writes");
    }
    index.compact().expect("compacts");
    let after = index.info();
    assert_eq!((after.items, after.tombstones), (COUNT, 0));
    assert!(after.generation > before.generation);
    assert_eq!(after.memory_bytes, before.memory_bytes, "36,000 replaced items have left nothing behind");
    let found = index.search(&SearchRequest::new(item(&set, 7, 12).vector)).expect("searches");
    assert_eq!(found[0].item_id, "item 00007");
}

#[test]
fn a_backup_is_whole_while_writing_goes_on() {
    let folder = TempDir::new().expect("a folder");
    let (index, set) = filled(folder.path());
    let target = TempDir::new().expect("a folder");
    let (within, beside) = (target.path().join("within"), target.path().join("beside"));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for version in 1..=4 {
                for start in (0..COUNT).step_by(500) {
                    let items = (start..start + 500).map(|number| item(&set, number, version));
                    index.upsert(items.collect()).expect("writes");
                }
            }
        });
        assert_eq!(index.backup(&within).expect("backs up"), COUNT);
        // As another process would do it.
        let reader = StoreReader::open(folder.path()).expect("opens beside the writer");
        assert_eq!(reader.backup(&beside).expect("backs up"), COUNT);
        writer.join().expect("writes");
    });
    for copy in [within, beside] {
        let report = StoreReader::open(&copy).expect("opens").verify().expect("reads");
        assert_eq!((report.rows, report.problems), (COUNT, 0), "{report:?}");
        let copy = EmbeddedIndex::open(&copy, options()).expect("opens");
        assert_eq!(copy.count(), COUNT);
        // Each commit had 500 items: a whole number of them is in the copy.
        let items = copy.page(None, COUNT).expect("reads");
        for start in (0..COUNT).step_by(500) {
            let version = |number: usize| {
                (0..=4)
                    .find(|&version| items[number] == item(&set, number, version))
                    .expect("one of the versions")
            };
            assert!((start..start + 500).all(|number| version(number) == version(start)));
        }
        // What is written next gets a row of its own.
        copy.upsert(vec![item(&set, 1, 0)]).expect("writes");
        assert_eq!(copy.count(), COUNT);
    }
    assert!(matches!(index.backup(folder.path()), Err(IndexError::Exists { .. })));
}

#[test]
fn a_store_whose_writer_was_killed_is_read() {
    let folder = TempDir::new().expect("a folder");
    let (index, set) = filled(folder.path());
    // What the disk holds at a moment at which the writer could be killed: just opened, and after a write.
    drop(index);
    let index = EmbeddedIndex::open(folder.path(), options()).expect("opens");
    let left_as_it_is = |to: &Path| {
        for file in fs::read_dir(folder.path()).expect("lists").flatten() {
            fs::copy(file.path(), to.join(file.file_name())).expect("copies");
        }
        StoreReader::open(to).expect("is read").count().expect("reads")
    };
    let (opened, written) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    assert_eq!(left_as_it_is(opened.path()), COUNT);
    let mut new = item(&set, 1, 0);
    new.id = "one more".to_owned();
    index.upsert(vec![new]).expect("writes");
    assert_eq!(left_as_it_is(written.path()), COUNT + 1);
}

#[test]
fn shrinking_gives_room_back_and_keeps_everything() {
    let folder = TempDir::new().expect("a folder");
    let (index, set) = filled(folder.path());
    let gone: Vec<String> = (100..COUNT).map(|number| item(&set, number, 0).id).collect();
    index.delete(&gone).expect("deletes");
    let expected = index.page(None, COUNT).expect("reads");
    let held = EmbeddedIndex::shrink(folder.path());
    assert!(matches!(held, Err(IndexError::InUse { .. })), "{held:?}");
    drop(index);
    let (before, after) = EmbeddedIndex::shrink(folder.path()).expect("shrinks");
    assert!(after < before / 2, "{before} to {after} bytes");
    let index = EmbeddedIndex::open(folder.path(), options()).expect("opens");
    assert_eq!(index.page(None, COUNT).expect("reads"), expected);
}

#[test]
fn a_whole_store_is_salvaged_whole() {
    let folder = TempDir::new().expect("a folder");
    let (index, _) = filled(folder.path());
    let expected = index.page(None, COUNT).expect("reads");
    drop(index);
    let before = fs::read(folder.path().join("catalogue.redb")).expect("reads");
    let target = TempDir::new().expect("a folder");
    let report = EmbeddedIndex::salvage(folder.path(), target.path().join("saved")).expect("salvages");
    assert_eq!((report.recovered, report.broken, report.expected), (COUNT, 0, Some(COUNT)));
    assert_eq!(fs::read(folder.path().join("catalogue.redb")).expect("reads"), before, "it is only read");
    let saved = EmbeddedIndex::open(target.path().join("saved"), options()).expect("opens");
    assert_eq!(saved.page(None, COUNT).expect("reads"), expected);
    let again = EmbeddedIndex::salvage(folder.path(), target.path().join("saved"));
    assert!(matches!(again, Err(IndexError::Exists { .. })), "{again:?}");
}
