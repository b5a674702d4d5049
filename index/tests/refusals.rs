//! What an index refuses: items and queries that are none, stores of other models and of other processes, files that are no store.

use dfml_index::{EmbeddedIndex, Filter, IndexError, Item, OpenOptions, Patch, SearchRequest, VectorIndex};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

const DIM: usize = 19;

fn options() -> OpenOptions {
    OpenOptions { create: true, ..OpenOptions::new(DIM, "model") }
}

#[test]
fn what_cannot_be_stored_or_searched_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let index = EmbeddedIndex::open(folder.path(), options()).expect("opens");
    let unit = |position: usize| (0..DIM).map(|i| f32::from(u8::from(i == position))).collect::<Vec<f32>>();
    let good = Item { id: "a".into(), product_id: "p".into(), vector: unit(0), ..Item::default() };
    let refused = |item: Item| match index.upsert(vec![good.clone(), item]) {
        Err(IndexError::InvalidItem { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(refused(Item { id: String::new(), ..good.clone() }).contains("id is empty"));
    assert!(refused(Item { product_id: "x".repeat(2000), ..good.clone() }).contains("2000 bytes"));
    assert!(refused(Item { vector: vec![1.0], ..good.clone() }).contains("1 values"));
    assert!(refused(Item { vector: vec![1.0; DIM], ..good.clone() }).contains("length"));
    let broken = vec![f32::NAN; DIM];
    assert!(refused(Item { vector: broken.clone(), ..good.clone() }).contains("NaN"));
    assert_eq!(index.count(), 0, "all are written or none");

    for vector in [vec![1.0], broken, vec![0.0; DIM]] {
        let answer = index.search(&SearchRequest::new(vector));
        assert!(matches!(answer, Err(IndexError::InvalidRequest { .. })), "{answer:?}");
    }
    let huge = SearchRequest { k: usize::MAX, offset: usize::MAX, ..SearchRequest::new(unit(0)) };
    assert_eq!(index.search(&huge).expect("searches"), []);
}

#[test]
fn a_patch_that_one_of_its_items_cannot_take_changes_none_of_them() {
    let folder = TempDir::new().expect("a folder");
    let index = EmbeddedIndex::open(folder.path(), options()).expect("opens");
    let vector = (0..DIM).map(|i| f32::from(u8::from(i == 0))).collect::<Vec<f32>>();
    let object = |value: Value| -> Map<String, Value> { value.as_object().cloned().expect("an object") };
    let item = |id: &str, note: usize| Item {
        id: id.into(),
        product_id: "p".into(),
        vector: vector.clone(),
        metadata: object(json!({"note": "x".repeat(note)})),
    };
    let stored = [item("large", Item::METADATA_BYTES_MAX - 100), item("small", 10)];
    index.upsert(stored.to_vec()).expect("writes");
    let patch = |ids: &[&str], metadata: Value| Patch {
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        metadata: object(metadata),
    };
    let long = "y".repeat(200);
    let patches = vec![
        patch(&["absent", "large", "small"], json!({"tag": long})),
        patch(&["small"], json!({"tag": "short"})),
        patch(&["absent"], json!({"tag": "short"})),
    ];
    let outcomes = index.patch(patches).expect("the others are made");
    let refused = outcomes[0].as_ref().expect_err("too large").to_string();
    assert!(["\"large\"", "65656", "65536"].iter().all(|part| refused.contains(part)), "{refused}");
    assert!(matches!(outcomes[1..], [Ok(1), Ok(0)]), "{outcomes:?}");
    assert_eq!(index.get("large").expect("reads").as_ref(), Some(&stored[0]));
    let small = index.get("small").expect("reads").expect("there");
    assert_eq!(small.metadata, object(json!({"note": "x".repeat(10), "tag": "short"})));
    let tagged = |tag: &str| {
        let filter = Some(Filter::equals("tag", tag));
        index.search(&SearchRequest { filter, ..SearchRequest::new(vector.clone()) }).expect("searches").len()
    };
    assert_eq!((tagged("short"), tagged(&long)), (1, 0), "memory has what the store has");
    let outcomes = index.patch(vec![patch(&["large"], json!({"note": null, "tag": long}))]).expect("writes");
    assert!(matches!(outcomes[..], [Ok(1)]), "{outcomes:?}");
}

#[test]
fn a_store_belongs_to_one_model_and_one_process() {
    let folder = TempDir::new().expect("a folder");
    let open = |options| EmbeddedIndex::open(folder.path().join("store"), options).err();
    assert!(matches!(open(OpenOptions { create: false, ..options() }), Some(IndexError::NotFound { .. })));
    assert!(open(options()).is_none());
    let other =
        open(OpenOptions { model_fingerprint: "other".into(), ..options() }).expect("refused").to_string();
    assert!(other.contains("model model") && other.contains("model other"), "{other}");
    let longer = open(OpenOptions { dim: DIM + 1, ..options() });
    assert!(matches!(longer, Some(IndexError::WrongDim { expected: 20, found: 19, .. })), "{longer:?}");
    let kept = EmbeddedIndex::open(folder.path().join("store"), options()).expect("opens");
    assert!(matches!(open(options()), Some(IndexError::InUse { .. })));
    drop(kept);
    assert!(open(OpenOptions { create: false, ..options() }).is_none());
}

#[test]
fn a_file_that_is_no_store_is_reported() {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("catalogue.redb"), vec![7u8; 100_000]).expect("writes");
    let error = EmbeddedIndex::open(folder.path(), options()).err();
    assert!(matches!(error, Some(IndexError::Damaged { .. })), "{error:?}");
}
