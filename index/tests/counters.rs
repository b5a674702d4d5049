//! Stores whose own numbers are wrong, and attempts that come to nothing: neither is taken for whole, and neither leaves anything.

use std::{fs, path::Path};

use dfml_index::{
    EmbeddedIndex, IndexError, Item, OpenOptions, StoreReader, Tuning, VectorIndex, synthetic::clustered,
};
use tempfile::TempDir;

const DIM: usize = 16;
const COUNT: usize = 700;
/// Items that are left in [`counted`] of [`COUNT`]. The last were deleted, so that no row has this number.
const LEFT: usize = 587;
const STORE: &str = "catalogue.redb";

fn options() -> OpenOptions {
    let tuning =
        Tuning { exact_up_to: 100, build_effort: 32, links: 8, probe_share: 0.0, ..Tuning::default() };
    OpenOptions { create: true, tuning, ..OpenOptions::new(DIM, "model") }
}

fn items() -> Vec<Item> {
    let set = clustered(COUNT, 1, DIM, 3);
    let item = |(number, vector): (usize, &[f32])| Item {
        id: format!("item {number}"),
        product_id: "p".into(),
        vector: vector.to_vec(),
        ..Item::default()
    };
    set.vectors.chunks(DIM).enumerate().map(item).collect()
}

/// A store of [`LEFT`] items whose next row is number [`COUNT`].
fn counted() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    // Without a graph, whose file would only be in the way here.
    let exact = OpenOptions { tuning: Tuning::default(), ..options() };
    let index = EmbeddedIndex::open(folder.path(), exact).expect("opens");
    index.upsert(items()).expect("writes");
    let gone: Vec<String> = (LEFT..COUNT).map(|number| format!("item {number}")).collect();
    assert_eq!(index.delete(&gone).expect("deletes"), gone.len());
    drop(index);
    // Without pages that are not in use, in which the numbers may be, too.
    EmbeddedIndex::shrink(folder.path()).expect("shrinks");
    folder
}

/// A copy of the store in which a number, wherever it is, is another.
fn with_another_number(folder: &Path, from: usize, to: u64) -> TempDir {
    let copy = TempDir::new().expect("a folder");
    let mut bytes = fs::read(folder.join(STORE)).expect("reads");
    let (from, to) = ((from as u64).to_le_bytes(), to.to_le_bytes());
    let places: Vec<usize> = (0..bytes.len() - 7).filter(|&at| bytes[at..at + 8] == from).collect();
    assert!(!places.is_empty(), "the number is in the file");
    for at in places {
        bytes[at..at + 8].copy_from_slice(&to);
    }
    fs::write(copy.path().join(STORE), bytes).expect("writes");
    copy
}

/// Files in a folder; none if there is no such folder.
fn files(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn a_store_that_miscounts_its_rows_is_not_taken_for_whole() {
    let original = counted();
    for said in [1, LEFT as u64 - 100, LEFT as u64 + 1, 1 << 40] {
        let folder = with_another_number(original.path(), LEFT, said);
        let reader = StoreReader::open(folder.path()).expect("is opened without a check of the whole");
        let target = TempDir::new().expect("a folder");
        let error = reader.backup(target.path()).expect_err("refused");
        assert!(matches!(error, IndexError::Damaged { .. }), "{said}: {error}");
        let told = error.to_string();
        assert!(told.contains(&format!("it has {LEFT} items, and says that it has {said} ")), "{told}");
        assert_eq!(files(target.path()), 0, "nothing is left of the copy");
        let report = reader.verify().expect("reads");
        assert_eq!((report.rows, report.problems), (LEFT, 4), "{report:?}");
        let says = format!("the store says {said}");
        assert!(report.named.iter().all(|named| named.ends_with(&says)), "{report:?}");
    }
    let report = StoreReader::open(original.path()).expect("opens").verify().expect("reads");
    assert_eq!((report.rows, report.problems), (LEFT, 0), "{report:?}");
}

#[test]
fn a_wrong_number_of_the_next_row_keeps_nothing_from_being_salvaged() {
    let original = counted();
    for next_row in [0, 3, 1 << 60] {
        let folder = with_another_number(original.path(), COUNT, next_row);
        let target = TempDir::new().expect("a folder");
        let report = EmbeddedIndex::salvage(folder.path(), target.path()).expect("salvages");
        assert_eq!((report.recovered, report.broken, report.expected), (LEFT, 0, Some(LEFT)), "{next_row}");
        assert_eq!(files(target.path()), 1, "only the store");
        assert_eq!(EmbeddedIndex::open(target.path(), options()).expect("opens").count(), LEFT);
    }
}

#[test]
fn what_comes_to_nothing_leaves_nothing() {
    let (nothing, target) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    fs::write(nothing.path().join(STORE), vec![7u8; 100_000]).expect("writes");
    let refused = EmbeddedIndex::salvage(nothing.path(), target.path());
    assert!(matches!(refused, Err(IndexError::Damaged { .. })), "{refused:?}");
    assert_eq!(files(target.path()), 0);

    // A graph cannot be saved where there is a folder of its name.
    let folder = TempDir::new().expect("a folder");
    let index = EmbeddedIndex::open(folder.path(), options()).expect("opens");
    fs::create_dir(folder.path().join("graph.snapshot")).expect("makes");
    index.upsert(items()).expect("writes");
    index.settle();
    assert!(index.info().graph.is_some(), "the graph is in use all the same");
    drop(index);
    assert_eq!(files(folder.path()), 2, "the store and what was in the way");
}
