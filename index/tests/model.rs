//! Random sequences of writes, searches and restarts, against a model that compares with everything.

use std::collections::{BTreeMap, HashSet};

use dfml_index::{
    EmbeddedIndex, Filter, Hit, IndexError, Item, OpenOptions, Scalar, SearchRequest, VectorIndex,
};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

const DIM: usize = 19;

fn options() -> OpenOptions {
    OpenOptions { dim: DIM, model_fingerprint: "model".into(), create: true }
}

/// What a catalogue should do, done slowly.
#[derive(Default)]
struct Model {
    items: BTreeMap<String, (usize, Item)>,
    upserts: usize,
}

impl Model {
    fn upsert(&mut self, items: &[Item]) {
        for item in items {
            self.upserts += 1;
            self.items.insert(item.id.clone(), (self.upserts, item.clone()));
        }
    }

    fn search(&self, request: &SearchRequest) -> Vec<Hit> {
        let dot = |item: &Item| item.vector.iter().zip(&request.vector).map(|(a, b)| a * b).sum::<f32>();
        let length = request.vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        let mut found: Vec<(f32, usize, &Item)> = self
            .items
            .values()
            .filter(|(_, item)| {
                request.filter.as_ref().is_none_or(|filter| filter.matches(&item.product_id, &item.metadata))
            })
            .map(|(number, item)| (dot(item) / length, *number, item))
            .filter(|(score, ..)| request.threshold.is_none_or(|threshold| *score >= threshold))
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut seen = HashSet::new();
        found.retain(|(_, _, item)| !request.group_by_product || seen.insert(&item.product_id));
        let page = found.into_iter().skip(request.offset).take(request.k);
        page.map(|(score, _, item)| Hit {
            item_id: item.id.clone(),
            product_id: item.product_id.clone(),
            score,
            metadata: item.metadata.clone(),
        })
        .collect()
    }
}

/// Scores equal up to rounding; items equal, except that neighbours whose scores differ by rounding only may change places.
fn check_hits(found: &[Hit], expected: &[Hit]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len());
    for (rank, (found, expected)) in found.iter().zip(expected).enumerate() {
        prop_assert!(
            (found.score - expected.score).abs() < 1e-5,
            "rank {}: {:?} {:?}",
            rank,
            found,
            expected
        );
    }
    let well_apart = |rank: usize| {
        let gap = |other: Option<usize>| {
            other
                .and_then(|other| expected.get(other))
                .is_none_or(|o| (o.score - expected[rank].score).abs() > 1e-5)
        };
        gap(rank.checked_sub(1)) && gap(Some(rank + 1)) && rank + 1 < expected.len()
    };
    for rank in (0..found.len()).filter(|&rank| well_apart(rank)) {
        prop_assert_eq!(&found[rank].item_id, &expected[rank].item_id);
        prop_assert_eq!(&found[rank].metadata, &expected[rank].metadata);
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Upsert(Vec<Item>),
    Delete(Vec<String>),
    Search(SearchRequest),
    Reopen,
}

fn vector() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1f32..1.0, DIM).prop_filter_map("zero", |vector| {
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        (length > 0.1).then(|| vector.iter().map(|value| value / length).collect())
    })
}

fn id() -> impl Strategy<Value = String> {
    (0..40u8).prop_map(|number| format!("item {number}"))
}

fn item() -> impl Strategy<Value = Item> {
    let metadata = (0..3u8, prop::collection::vec(0..4u8, 0..3), prop::option::of(-5..5i8), any::<bool>());
    (id(), 0..12u8, vector(), metadata).prop_map(|(id, product, vector, (category, tags, width, new))| {
        let tags: Vec<String> = tags.into_iter().map(|tag| format!("tag {tag}")).collect();
        let mut metadata = json!({"category": format!("category {category}"), "tags": tags, "new": new});
        if let Some(width) = width {
            metadata["width"] = json!(f64::from(width) / 2.0);
        }
        let metadata = metadata.as_object().cloned().expect("an object");
        Item { id, product_id: format!("product {product}"), vector, metadata }
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    let half =
        |range: std::ops::Range<i8>| prop::option::of(range.prop_map(|number| f64::from(number) / 2.0));
    let leaf = prop_oneof![
        (0..4u8).prop_map(|category| Filter::equals("category", format!("category {category}"))),
        prop::collection::vec(0..5u8, 0..3).prop_map(|tags| Filter::AnyOf {
            field: "tags".into(),
            values: tags.into_iter().map(|tag| Scalar::Text(format!("tag {tag}"))).collect()
        }),
        (half(-6..6), half(-6..6)).prop_map(|(min, max)| Filter::range("width", min, max)),
        any::<bool>().prop_map(|new| Filter::Equals { field: "new".into(), value: Scalar::Bool(new) }),
        Just(Filter::Equals { field: "width".into(), value: Scalar::Number(-0.0) }),
        Just(Filter::equals("absent", "x")),
        prop::collection::vec((0..14u8).prop_map(|product| format!("product {product}")), 0..4)
            .prop_map(Filter::Products),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::Or),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

fn request() -> impl Strategy<Value = SearchRequest> {
    let threshold = prop::option::of(-0.5f32..0.8);
    (
        vector(),
        0..50usize,
        0..5usize,
        prop::option::of(filter()),
        any::<bool>(),
        threshold,
        any::<bool>(),
        0.1f32..9.0,
    )
        .prop_map(|(vector, k, offset, filter, group_by_product, threshold, exact, scale)| {
            SearchRequest {
                vector: vector.into_iter().map(|value| value * scale).collect(),
                k,
                offset,
                filter,
                group_by_product,
                threshold,
                exact,
                effort: None,
            }
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(item(), 1..12).prop_map(Step::Upsert),
        2 => prop::collection::vec(id(), 0..6).prop_map(Step::Delete),
        5 => request().prop_map(Step::Search),
        1 => Just(Step::Reopen),
    ]
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let folder = TempDir::new().expect("a folder");
    let mut index = EmbeddedIndex::open(folder.path(), options()).expect("opens");
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Upsert(items) => {
                index.upsert(items.clone()).expect("writes");
                model.upsert(items);
            }
            Step::Delete(ids) => {
                let expected = ids.iter().filter(|id| model.items.remove(*id).is_some()).count();
                prop_assert_eq!(index.delete(ids).expect("deletes"), expected);
            }
            Step::Search(request) => {
                let found = index.search(request).expect("searches");
                // Near the threshold rounding decides; the model and the index may differ there.
                let expected = model.search(request);
                let near =
                    |hit: &Hit| request.threshold.is_some_and(|limit| (hit.score - limit).abs() < 1e-5);
                if !expected.iter().chain(&found).any(near) {
                    check_hits(&found, &expected)?;
                }
            }
            Step::Reopen => {
                drop(index);
                index = EmbeddedIndex::open(folder.path(), options()).expect("opens");
            }
        }
        prop_assert_eq!(index.count(), model.items.len());
    }
    check_contents(&index, &model)
}

fn check_contents(index: &EmbeddedIndex, model: &Model) -> Result<(), TestCaseError> {
    let mut walked = Vec::new();
    loop {
        let page = index.page(walked.last().map(|item: &Item| item.id.as_str()), 7).expect("reads");
        if page.is_empty() {
            break;
        }
        walked.extend(page);
    }
    let expected: Vec<Item> = model.items.values().map(|(_, item)| item.clone()).collect();
    prop_assert_eq!(&walked, &expected);
    let products: HashSet<&str> = expected.iter().map(|item| item.product_id.as_str()).collect();
    prop_assert_eq!(index.info().products, products.len());
    if let Some(item) = expected.first() {
        prop_assert_eq!(index.get(&item.id).expect("reads"), Some(item.clone()));
    }
    prop_assert_eq!(index.get("absent").expect("reads"), None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn agrees_with_the_model(steps in prop::collection::vec(step(), 1..30)) {
        run(&steps)?;
    }
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
