//! Searches against a slow comparison with everything.

use std::collections::HashSet;

use dfml_index::{Example, IndexError, Item, SearchMode, SearchRequest, VectorIndex};

use crate::{
    place::{DIM, Place},
    truth::{Dice, Truth},
};

/// Random questions to each backend.
const QUESTIONS: usize = 150;

fn filled(index: &dyn VectorIndex, count: usize, seed: u64) -> Truth {
    let (mut dice, mut truth) = (Dice::new(seed), Truth::default());
    let items: Vec<Item> = (0..count).map(|number| dice.item(number)).collect();
    index.upsert(items.clone()).expect("writes");
    truth.upsert(&items);
    truth
}

#[test]
fn exact_answers_are_the_same_everywhere() {
    for place in Place::all() {
        let index = place.open();
        let truth = filled(&*index, 300, 11);
        let mut dice = Dice::new(12);
        let requests: Vec<SearchRequest> = (0..QUESTIONS).map(|_| dice.request(&truth)).collect();
        for request in &requests {
            let found =
                index.search(request).unwrap_or_else(|error| panic!("{}: {error}: {request:?}", place.name));
            truth.check(place.name, request, &found);
        }
        let together = index.search_many(&requests).expect("searches");
        assert_eq!(together.len(), requests.len());
        for (request, found) in requests.iter().zip(&together) {
            truth.check(place.name, request, found);
        }
    }
}

#[test]
fn a_product_with_many_images_does_not_hide_the_others() {
    for place in Place::all() {
        let index = place.open();
        let mut dice = Dice::new(13);
        let query = dice.vector();
        // 400 images of ten products are all nearer than those of thirty others.
        let near = |dice: &mut Dice, weight: f32| {
            let mixed: Vec<f32> = query.iter().zip(dice.vector()).map(|(q, r)| q + weight * r).collect();
            let length = mixed.iter().map(|value| value * value).sum::<f32>().sqrt();
            mixed.into_iter().map(|value| value / length).collect::<Vec<f32>>()
        };
        let mut items = Vec::new();
        for number in 0..400 {
            let product_id = format!("near {}", number % 10);
            items.push(Item { product_id, vector: near(&mut dice, 0.2), ..dice.item(number) });
        }
        for number in 400..430 {
            let product_id = format!("far {number}");
            items.push(Item { product_id, vector: near(&mut dice, 2.0), ..dice.item(number) });
        }
        let mut truth = Truth::default();
        truth.upsert(&items);
        index.upsert(items).expect("writes");
        for k in [5, 25, 100] {
            let request =
                SearchRequest { k, group_by_product: true, exact: true, ..SearchRequest::new(query.clone()) };
            let found = index.search(&request).expect("searches");
            assert_eq!(found.len(), k.min(40), "{}", place.name);
            truth.check(place.name, &request, &found);
        }
    }
}

#[test]
fn what_cannot_be_searched_is_refused() {
    for place in Place::all() {
        let (name, index) = (place.name, place.open());
        let truth = filled(&*index, 20, 14);
        let some = truth.0.values().next().expect("there are items").clone();
        for vector in [vec![1.0], vec![f32::NAN; DIM], vec![0.0; DIM]] {
            let answer = index.search(&SearchRequest::new(vector));
            assert!(matches!(answer, Err(IndexError::InvalidRequest { .. })), "{name}: {answer:?}");
        }
        let none = index.search(&SearchRequest { k: 3, ..SearchRequest::default() });
        assert!(matches!(none, Err(IndexError::InvalidRequest { .. })), "{name}: {none:?}");
        let threshold =
            SearchRequest { threshold: Some(f32::NAN), ..SearchRequest::new(some.vector.clone()) };
        assert!(matches!(index.search(&threshold), Err(IndexError::InvalidRequest { .. })), "{name}");
        let opposite = some.vector.iter().map(|value| -value).collect();
        let opposite = SearchRequest {
            positive: vec![Example::Vector(some.vector.clone()), Example::Vector(opposite)],
            k: 1,
            ..SearchRequest::default()
        };
        assert!(matches!(index.search(&opposite), Err(IndexError::InvalidRequest { .. })), "{name}");
        let item = index.search(&SearchRequest::like_item("absent"));
        assert!(matches!(&item, Err(IndexError::NoSuchItem { id }) if id == "absent"), "{name}: {item:?}");
        let product = index.search(&SearchRequest::like_product("absent"));
        assert!(
            matches!(&product, Err(IndexError::NoSuchProduct { id }) if id == "absent"),
            "{name}: {product:?}"
        );
        let many = [SearchRequest::new(some.vector.clone()), SearchRequest::like_item("absent")];
        assert!(matches!(index.search_many(&many), Err(IndexError::NoSuchItem { .. })), "{name}");
        assert_eq!(index.search_many(&[]).expect("nothing is well"), Vec::<Vec<_>>::new());
        let huge =
            SearchRequest { k: usize::MAX, offset: usize::MAX, ..SearchRequest::new(some.vector.clone()) };
        assert_eq!(index.search(&huge).expect("searches"), [], "{name}");
        let all = SearchRequest { k: usize::MAX, ..SearchRequest::new(some.vector) };
        assert_eq!(index.search(&all).expect("searches").len(), 20, "{name}");
    }
}

#[test]
fn a_graph_finds_nearly_all() {
    // The embedded index has tests of its own graph; this is about the engine's.
    let place = Place::test_server(50);
    let index = place.open();
    let truth = filled(&*index, 3000, 15);
    let start = std::time::Instant::now();
    while index.info().expect("figures").mode == SearchMode::Exact {
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "the engine builds its graph");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut dice = Dice::new(16);
    let (mut found, mut wanted) = (0, 0);
    for number in 0..100 {
        let request = SearchRequest {
            k: 10,
            group_by_product: number % 4 == 0,
            filter: (number % 3 == 0).then(|| dfml_index::Filter::equals("category", "category 1")),
            ..SearchRequest::new(dice.vector())
        };
        let expected: HashSet<String> =
            truth.search(&request).into_iter().take(10).map(|hit| hit.item_id).collect();
        let answer = index.search(&request).expect("searches");
        found += answer.iter().filter(|hit| expected.contains(&hit.item_id)).count();
        wanted += expected.len();
        truth.check(
            place.name,
            &SearchRequest { exact: true, ..request.clone() },
            &index.search(&SearchRequest { exact: true, ..request }).expect("searches"),
        );
    }
    let recall = found as f64 / wanted as f64;
    println!("recall@10 with a graph: {recall:.4}");
    assert!(recall >= 0.99, "recall@10 {recall}");
}
