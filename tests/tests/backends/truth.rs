//! What an index should answer, found by comparing with everything.

use std::collections::{BTreeMap, HashSet};

use dfml_index::{Example, Filter, Hit, Item, Scalar, SearchRequest};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::place::DIM;

/// A catalogue as a list.
#[derive(Default)]
pub(crate) struct Truth(pub(crate) BTreeMap<String, Item>);

impl Truth {
    pub(crate) fn upsert(&mut self, items: &[Item]) {
        self.0.extend(items.iter().map(|item| (item.id.clone(), item.clone())));
    }

    fn of_product(&self, id: &str) -> Vec<&Item> {
        self.0.values().filter(|item| item.product_id == id).collect()
    }

    fn centre(vectors: &[&Vec<f32>]) -> Vec<f64> {
        let sum = |at: usize| vectors.iter().map(|vector| f64::from(vector[at])).sum::<f64>();
        unit((0..DIM).map(sum).collect())
    }

    fn mean(&self, examples: &[Example]) -> Vec<f64> {
        let one = |example: &Example| match example {
            Example::Vector(vector) => Self::centre(&[vector]),
            Example::Item(id) => Self::centre(&[&self.0[id].vector]),
            Example::Product(id) => {
                Self::centre(&self.of_product(id).iter().map(|item| &item.vector).collect::<Vec<_>>())
            }
        };
        let all: Vec<Vec<f64>> = examples.iter().map(one).collect();
        (0..DIM).map(|at| all.iter().map(|one| one[at]).sum::<f64>() / all.len() as f64).collect()
    }

    fn is_excluded(&self, request: &SearchRequest, item: &Item) -> bool {
        request.exclude_examples
            && request.positive.iter().chain(&request.negative).any(|example| match example {
                Example::Vector(_) => false,
                Example::Item(id) => {
                    *id == item.id || request.group_by_product && self.0[id].product_id == item.product_id
                }
                Example::Product(id) => *id == item.product_id,
            })
    }

    /// All hits, best first, without regard for `k` and `offset`.
    pub(crate) fn search(&self, request: &SearchRequest) -> Vec<Hit> {
        let mut query = self.mean(&request.positive);
        if !request.negative.is_empty() {
            let away = self.mean(&request.negative);
            query.iter_mut().zip(away).for_each(|(value, away)| *value = 2.0 * *value - away);
        }
        let query = unit(query);
        let score =
            |item: &Item| item.vector.iter().zip(&query).map(|(&a, b)| f64::from(a) * b).sum::<f64>() as f32;
        let lets_through = |item: &&Item| {
            request.filter.as_ref().is_none_or(|filter| filter.matches(&item.product_id, &item.metadata))
        };
        let found = self.0.values().filter(lets_through).filter(|item| !self.is_excluded(request, item));
        let mut found: Vec<Hit> = found
            .map(|item| Hit {
                item_id: item.id.clone(),
                product_id: item.product_id.clone(),
                score: score(item),
                metadata: item.metadata.clone(),
            })
            .filter(|hit| request.threshold.is_none_or(|threshold| hit.score >= threshold))
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut seen = HashSet::new();
        found.retain(|hit| !request.group_by_product || seen.insert(hit.product_id.clone()));
        found
    }

    /// Checks an answer: the same ids with the same metadata, and scores equal up to rounding.
    pub(crate) fn check(&self, name: &str, request: &SearchRequest, found: &[Hit]) {
        let expected: Vec<Hit> =
            self.search(request).into_iter().skip(request.offset).take(request.k).collect();
        // Near the threshold rounding decides.
        let limit = request.threshold.unwrap_or(-2.0);
        if expected.iter().chain(found).any(|hit| (hit.score - limit).abs() < 1e-5) {
            return;
        }
        let shown: Vec<_> = found.iter().map(|hit| (&hit.item_id, &hit.product_id, hit.score)).collect();
        assert_eq!(found.len(), expected.len(), "{name}: {request:?}: {shown:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found.score - expected.score).abs() < 1e-5,
                "{name}: {found:?} for {expected:?}, {request:?}"
            );
        }
        // Random vectors are well apart, so that the order is the same.
        let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.item_id.clone()).collect::<Vec<_>>();
        let apart = expected.windows(2).all(|pair| pair[0].score - pair[1].score > 1e-6);
        if apart {
            assert_eq!(ids(found), ids(&expected), "{name}: {request:?}");
            assert_eq!(
                found.iter().map(|hit| &hit.metadata).collect::<Vec<_>>(),
                expected.iter().map(|hit| &hit.metadata).collect::<Vec<_>>(),
                "{name}"
            );
        }
    }
}

fn unit(vector: Vec<f64>) -> Vec<f64> {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.into_iter().map(|value| value / length).collect()
}

/// Random catalogues and questions, the same for the same seed.
pub(crate) struct Dice(pub(crate) ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn vector(&mut self) -> Vec<f32> {
        let vector: Vec<f32> = (0..DIM).map(|_| self.0.random_range(-1.0..1.0)).collect();
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.into_iter().map(|value| value / length).collect()
    }

    pub(crate) fn item(&mut self, number: usize) -> Item {
        let tags: Vec<String> = (0..self.0.random_range(0..3)).map(|_| self.tag()).collect();
        let mut metadata = json!({
            "category": format!("category {}", self.0.random_range(0..4)),
            "tags": tags,
            "new": self.0.random_bool(0.5),
            "a.b \"c\" %": self.tag(),
            "nested": {"list": [1, {"deep": null}], "big": u64::MAX},
            "mixed": [self.0.random_range(0..3), "1", true, [2], null],
        });
        if self.0.random_bool(0.7) {
            metadata["width"] = json!(f64::from(self.0.random_range(-6..6)) / 2.0);
        }
        if self.0.random_bool(0.3) {
            // A number as an integer, and as a text.
            metadata["width"] =
                if self.0.random_bool(0.5) { json!(self.0.random_range(-3..3)) } else { json!("1") };
        }
        let metadata = metadata.as_object().cloned().expect("an object");
        let product_id = format!("product {}", self.0.random_range(0..30));
        Item { id: format!("item {number}"), product_id, vector: self.vector(), metadata }
    }

    fn tag(&mut self) -> String {
        format!("tag {}", self.0.random_range(0..5))
    }

    fn half(&mut self) -> Option<f64> {
        self.0.random_bool(0.7).then(|| f64::from(self.0.random_range(-7..7)) / 2.0)
    }

    pub(crate) fn filter(&mut self, depth: usize) -> Filter {
        let many = if depth == 0 { 9 } else { 12 };
        match self.0.random_range(0..many) {
            0 => Filter::equals("category", format!("category {}", self.0.random_range(0..5))),
            1 => {
                let values = (0..self.0.random_range(0..3)).map(|_| Scalar::Text(self.tag())).collect();
                Filter::AnyOf { field: "tags".into(), values }
            }
            2 => {
                let (min, max) = (self.half(), self.half());
                Filter::range("width", min, max)
            }
            3 => Filter::Equals { field: "new".into(), value: Scalar::Bool(self.0.random_bool(0.5)) },
            4 => Filter::Equals { field: "width".into(), value: Scalar::Number(-0.0) },
            5 => Filter::equals("a.b \"c\" %", self.tag()),
            6 => {
                let values = vec![Scalar::Number(2.0), Scalar::Text("x".into()), Scalar::Bool(false)];
                Filter::AnyOf { field: "mixed".into(), values }
            }
            7 => Filter::equals(
                ["absent", "nested", "width", "mixed"].choose(&mut self.0).copied().expect("four"),
                "1",
            ),
            8 => Filter::Products(
                (0..self.0.random_range(0..6))
                    .map(|_| format!("product {}", self.0.random_range(0..40)))
                    .collect(),
            ),
            9 => Filter::And((0..self.0.random_range(0..3)).map(|_| self.filter(depth - 1)).collect()),
            10 => Filter::Or((0..self.0.random_range(0..3)).map(|_| self.filter(depth - 1)).collect()),
            _ => Filter::Not(Box::new(self.filter(depth - 1))),
        }
    }

    fn example(&mut self, truth: &Truth) -> Example {
        let items: Vec<&Item> = truth.0.values().collect();
        let item = items.choose(&mut self.0).expect("there are items");
        match self.0.random_range(0..6) {
            0 => Example::Item(item.id.clone()),
            1 => Example::Product(item.product_id.clone()),
            _ => {
                let scale = self.0.random_range(0.1..9.0);
                Example::Vector(self.vector().into_iter().map(|value| value * scale).collect())
            }
        }
    }

    pub(crate) fn request(&mut self, truth: &Truth) -> SearchRequest {
        let positive = (0..self.0.random_range(1..3)).map(|_| self.example(truth)).collect();
        let away = if self.0.random_bool(0.2) { self.0.random_range(1..3) } else { 0 };
        SearchRequest {
            positive,
            negative: (0..away).map(|_| self.example(truth)).collect(),
            k: self.0.random_range(0..40),
            offset: self.0.random_range(0..5),
            filter: self.0.random_bool(0.7).then(|| self.filter(2)),
            group_by_product: self.0.random_bool(0.5),
            threshold: self.0.random_bool(0.3).then(|| self.0.random_range(-0.5..0.5)),
            exclude_examples: self.0.random_bool(0.5),
            exact: true,
            effort: None,
        }
    }
}
