//! Random sequences of writes, searches and restarts, against a model that compares with everything.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use dfml_index::{
    EmbeddedIndex, Example, Filter, Hit, IndexError, Item, OpenOptions, Patch, Scalar, SearchRequest,
    VectorIndex,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

const DIM: usize = 19;

fn options() -> OpenOptions {
    OpenOptions { create: true, ..OpenOptions::new(DIM, "model") }
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

    /// Metadata in these tests is flat: a null removes, anything else replaces.
    fn patch(&mut self, patches: &[Patch]) -> Vec<usize> {
        let mut changed = vec![0; patches.len()];
        for (patch, changed) in patches.iter().zip(&mut changed) {
            for id in &patch.ids {
                let Some((_, item)) = self.items.get_mut(id) else { continue };
                *changed += 1;
                for (key, value) in &patch.metadata {
                    match value {
                        Value::Null => drop(item.metadata.remove(key)),
                        value => drop(item.metadata.insert(key.clone(), value.clone())),
                    }
                }
            }
        }
        changed
    }

    fn of_product(&self, id: &str) -> Vec<Item> {
        let mut found: Vec<_> = self.items.values().filter(|(_, item)| item.product_id == id).collect();
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, item)| item.clone()).collect()
    }

    /// The query that a request stands for; `None` if one of its examples is not there.
    fn query(&self, request: &SearchRequest) -> Option<Vec<f32>> {
        let unit = |vector: Vec<f32>| {
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            vector.into_iter().map(|value| value / length).collect::<Vec<f32>>()
        };
        let mean = |vectors: Vec<Vec<f32>>| {
            let sum = |at: usize| vectors.iter().map(|vector| vector[at]).sum::<f32>();
            (0..DIM).map(|at| sum(at) / vectors.len() as f32).collect::<Vec<f32>>()
        };
        let all = |examples: &[Example]| {
            let one = |example: &Example| match example {
                Example::Vector(vector) => Some(unit(vector.clone())),
                Example::Item(id) => Some(self.items.get(id)?.1.vector.clone()),
                Example::Product(id) => {
                    let vectors: Vec<_> = self.of_product(id).into_iter().map(|item| item.vector).collect();
                    (!vectors.is_empty()).then(|| unit(mean(vectors)))
                }
            };
            examples.iter().map(one).collect::<Option<Vec<_>>>()
        };
        let positive = mean(all(&request.positive)?);
        if request.negative.is_empty() {
            return Some(unit(positive));
        }
        let negative = mean(all(&request.negative)?);
        Some(unit(positive.iter().zip(&negative).map(|(p, n)| 2.0 * p - n).collect()))
    }

    fn is_excluded(&self, request: &SearchRequest, item: &Item) -> bool {
        let product_of = |id: &str| self.items.get(id).map(|(_, item)| item.product_id.as_str());
        request.exclude_examples
            && request.positive.iter().chain(&request.negative).any(|example| match example {
                Example::Vector(_) => false,
                Example::Item(id) => {
                    *id == item.id
                        || request.group_by_product && product_of(id) == Some(item.product_id.as_str())
                }
                Example::Product(id) => *id == item.product_id,
            })
    }

    fn search(&self, request: &SearchRequest) -> Option<Vec<Hit>> {
        let query = self.query(request)?;
        let dot = |item: &Item| item.vector.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
        let mut found: Vec<(f32, usize, &Item)> = self
            .items
            .values()
            .filter(|(_, item)| !self.is_excluded(request, item))
            .filter(|(_, item)| {
                request.filter.as_ref().is_none_or(|filter| filter.matches(&item.product_id, &item.metadata))
            })
            .map(|(number, item)| (dot(item), *number, item))
            .filter(|(score, ..)| request.threshold.is_none_or(|threshold| *score >= threshold))
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut seen = HashSet::new();
        found.retain(|(_, _, item)| !request.group_by_product || seen.insert(&item.product_id));
        let page = found.into_iter().skip(request.offset).take(request.k);
        let hits = page.map(|(score, _, item)| Hit {
            item_id: item.id.clone(),
            product_id: item.product_id.clone(),
            score,
            metadata: item.metadata.clone(),
        });
        Some(hits.collect())
    }
}

/// Scores equal up to rounding; items equal, except that neighbours whose scores differ by rounding only may change places. Not all
/// neighbours are in sight: one may be before the page, and of a product's items only the best is there.
fn check_hits(found: &[Hit], expected: &[Hit], request: &SearchRequest) -> Result<(), TestCaseError> {
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
        let inside = (rank > 0 || request.offset == 0) && rank + 1 < expected.len();
        inside && gap(rank.checked_sub(1)) && gap(Some(rank + 1))
    };
    for rank in (0..found.len()).filter(|&rank| well_apart(rank)) {
        prop_assert_eq!(&found[rank].product_id, &expected[rank].product_id);
        if !request.group_by_product {
            prop_assert_eq!(&found[rank].item_id, &expected[rank].item_id);
            prop_assert_eq!(&found[rank].metadata, &expected[rank].metadata);
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Upsert(Vec<Item>),
    Patch(Vec<Patch>),
    Delete(Vec<String>),
    DeleteProduct(String),
    Search(SearchRequest),
    /// Several searches in one call.
    SearchMany(Vec<SearchRequest>),
    Compact,
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

fn patch() -> impl Strategy<Value = Patch> {
    let ids = prop::collection::btree_set(id(), 1..4);
    (ids, 0..4u8, prop::option::of(-5..5i8)).prop_map(|(ids, category, width)| {
        let metadata =
            json!({"category": format!("category {category}"), "width": width.map(|w| f64::from(w) / 2.0)});
        Patch { ids, metadata: metadata.as_object().cloned().expect("an object") }
    })
}

fn example() -> impl Strategy<Value = Example> {
    prop_oneof![
        4 => (vector(), 0.1f32..9.0).prop_map(|(vector, scale)| {
            Example::Vector(vector.into_iter().map(|value| value * scale).collect())
        }),
        1 => id().prop_map(Example::Item),
        1 => (0..12u8).prop_map(|number| Example::Product(format!("product {number}"))),
    ]
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
    let examples = (
        prop::collection::vec(example(), 1..3),
        prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(example(), 1..3)],
        any::<bool>(),
    );
    let page = (0..50usize, 0..5usize);
    (examples, page, prop::option::of(filter()), any::<bool>(), threshold, any::<bool>()).prop_map(
        |(examples, (k, offset), filter, group_by_product, threshold, exact)| {
            let (positive, negative, exclude_examples) = examples;
            SearchRequest {
                positive,
                negative,
                k,
                offset,
                filter,
                group_by_product,
                threshold,
                exclude_examples,
                exact,
                effort: None,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(item(), 1..12).prop_map(Step::Upsert),
        2 => prop::collection::vec(patch(), 1..5).prop_map(Step::Patch),
        2 => prop::collection::vec(id(), 0..6).prop_map(Step::Delete),
        1 => (0..14u8).prop_map(|product| Step::DeleteProduct(format!("product {product}"))),
        5 => request().prop_map(Step::Search),
        1 => prop::collection::vec(request(), 0..20).prop_map(Step::SearchMany),
        1 => Just(Step::Compact),
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
            Step::Patch(patches) => {
                let outcomes = index.patch(patches.clone()).expect("patches").into_iter();
                let changed = outcomes.collect::<Result<Vec<usize>, _>>().expect("all are small");
                prop_assert_eq!(changed, model.patch(patches));
            }
            Step::DeleteProduct(id) => {
                let gone = model.of_product(id);
                gone.iter().for_each(|item| drop(model.items.remove(&item.id)));
                prop_assert_eq!(
                    index.delete_products(std::slice::from_ref(id)).expect("deletes"),
                    gone.len()
                );
            }
            Step::Search(request) => check_answer(&model, request, index.search(request))?,
            Step::SearchMany(requests) => {
                // One that fails would fail them all.
                let good = |request: &&SearchRequest| model.query(request).is_some();
                let requests: Vec<SearchRequest> = requests.iter().filter(good).cloned().collect();
                let answers = index.search_many(&requests).expect("searches");
                prop_assert_eq!(answers.len(), requests.len());
                for (request, answer) in requests.iter().zip(answers) {
                    check_answer(&model, request, Ok(answer))?;
                }
            }
            Step::Compact => {
                index.compact().expect("compacts");
                prop_assert_eq!(index.info().tombstones, 0);
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

fn check_answer(
    model: &Model,
    request: &SearchRequest,
    answer: Result<Vec<Hit>, IndexError>,
) -> Result<(), TestCaseError> {
    let Some(expected) = model.search(request) else {
        let absent = matches!(answer, Err(IndexError::NoSuchItem { .. } | IndexError::NoSuchProduct { .. }));
        prop_assert!(absent, "{:?}", answer);
        return Ok(());
    };
    let found = answer.expect("searches");
    // Near the threshold rounding decides; the model and the index may differ there.
    let near = |hit: &Hit| request.threshold.is_some_and(|limit| (hit.score - limit).abs() < 1e-5);
    if !expected.iter().chain(&found).any(near) {
        check_hits(&found, &expected, request)?;
    }
    Ok(())
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
    let products: BTreeSet<&str> = expected.iter().map(|item| item.product_id.as_str()).collect();
    prop_assert_eq!(index.info().products, Some(products.len()));
    let listed = index.products(None, usize::MAX).expect("lists");
    prop_assert!(listed.iter().map(|product| product.product_id.as_str()).eq(products.iter().copied()));
    let after_first: Vec<_> = listed.iter().skip(1).take(2).cloned().collect();
    let first = listed.first().map(|product| product.product_id.as_str());
    prop_assert!(first.is_none() || index.products(first, 2).expect("lists") == after_first);
    for product in &listed {
        let items = index.product(&product.product_id).expect("reads");
        prop_assert_eq!(product.items, items.len());
        prop_assert_eq!(items, model.of_product(&product.product_id));
    }
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
