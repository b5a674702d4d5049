//! A store that an older version wrote: `data/format-1.redb`, by the first version of this crate (format 1), holding items 0
//! to 11 of which 3 was replaced by itself and 5 deleted.

use std::{fs, path::Path};

use dfml_index::{EmbeddedIndex, IndexError, Item, OpenOptions, SearchRequest, StoreReader, VectorIndex};
use serde_json::json;
use tempfile::TempDir;

fn item(number: usize) -> Item {
    let mut vector = vec![0f32; 4];
    vector[number % 4] = 0.6;
    vector[(number + 1) % 4] = 0.8;
    let metadata = json!({"number": number, "tags": ["old", format!("tag {}", number % 3)]});
    Item {
        id: format!("item {number}"),
        product_id: format!("product {}", number / 2),
        vector,
        metadata: metadata.as_object().cloned().expect("an object"),
    }
}

fn old_store() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-1.redb");
    fs::copy(data, folder.path().join("catalogue.redb")).expect("copies");
    folder
}

#[test]
fn a_store_of_format_1_is_brought_up_to_date() {
    let folder = old_store();
    let reader = StoreReader::open(folder.path()).err();
    assert!(
        matches!(reader, Some(IndexError::UnsupportedFormat { found: 1, supported: 2, .. })),
        "{reader:?}"
    );
    let options = OpenOptions::new(4, "model of format 1");
    let mut expected: Vec<Item> = (0..12).filter(|&number| number != 5).map(item).collect();
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    for _ in 0..2 {
        let index = EmbeddedIndex::open(folder.path(), options.clone()).expect("opens");
        assert_eq!(index.page(None, 100).expect("reads"), expected);
        let hits = index.search(&SearchRequest::new(item(0).vector)).expect("searches");
        // Of four equal vectors the oldest is first.
        assert_eq!((hits[0].item_id.as_str(), hits[1].item_id.as_str()), ("item 0", "item 4"));
    }
    let reader = StoreReader::open(folder.path()).expect("opens");
    assert_eq!(reader.facts().format, 2);
    let report = reader.verify().expect("reads");
    assert_eq!((report.rows, report.problems), (11, 0), "{report:?}");
}

#[test]
fn a_refused_store_stays_as_it_is() {
    let folder = old_store();
    let error = EmbeddedIndex::open(folder.path(), OpenOptions::new(4, "another model")).err();
    let error = error.expect("refused").to_string();
    assert!(error.contains("model of format 1") && error.contains("another model"), "{error}");
    let reader = StoreReader::open(folder.path()).err();
    assert!(matches!(reader, Some(IndexError::UnsupportedFormat { found: 1, .. })), "{reader:?}");
    let index = EmbeddedIndex::open(folder.path(), OpenOptions::new(4, "model of format 1")).expect("opens");
    assert_eq!(index.count(), 11);
}
