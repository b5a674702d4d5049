//! What is written and deleted, read back.

use std::collections::{BTreeMap, BTreeSet};

use dfml_index::{IndexError, Item, VectorIndex};
use rand::RngExt;

use crate::{
    place::{DIM, Place},
    truth::{Dice, Truth},
};

/// The same items, whatever their order, but for the rounding of their vectors.
fn check_same(name: &str, found: &[Item], expected: &[&Item]) {
    let found: BTreeMap<&str, &Item> = found.iter().map(|item| (item.id.as_str(), item)).collect();
    assert_eq!(found.len(), expected.len(), "{name}");
    for expected in expected {
        let found = found.get(expected.id.as_str()).unwrap_or_else(|| panic!("{name}: no {:?}", expected.id));
        assert!(found.is_same(expected), "{name}: {found:?} for {expected:?}");
    }
}

/// All items, page by page; each must be met once.
fn walk(index: &dyn VectorIndex, limit: usize) -> Vec<Item> {
    let mut all: Vec<Item> = Vec::new();
    loop {
        let page = index.page(all.last().map(|item| item.id.as_str()), limit).expect("reads");
        assert!(page.len() <= limit);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Everything that can be read, and nothing else, is as it should be.
pub(crate) fn check_contents(name: &str, index: &dyn VectorIndex, truth: &Truth) {
    let all: Vec<&Item> = truth.0.values().collect();
    assert_eq!(index.count().expect("counts"), all.len(), "{name}");
    let walked = walk(index, 7);
    assert_eq!(walked.len(), all.len(), "{name}: each item is met once");
    check_same(name, &walked, &all);
    let in_one = index.page(None, usize::MAX).expect("reads");
    let ids = |items: &[Item]| items.iter().map(|item| item.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&in_one), ids(&walked), "{name}: the order does not depend on the page's size");

    let mut products: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|item| *products.entry(&item.product_id).or_default() += 1);
    let listed = index.products(None, usize::MAX).expect("lists");
    let counts: BTreeMap<&str, usize> = listed.iter().map(|p| (p.product_id.as_str(), p.items)).collect();
    assert_eq!(counts, products, "{name}");
    assert_eq!(listed.len(), products.len(), "{name}: each product is met once");
    let mut paged: Vec<_> = Vec::new();
    loop {
        let after = paged.last().map(|product: &dfml_index::ProductSummary| product.product_id.clone());
        let page = index.products(after.as_deref(), 4).expect("lists");
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, listed, "{name}");
    assert_eq!(index.info().expect("figures").products, Some(products.len()), "{name}");
    assert_eq!(index.info().expect("figures").items, all.len(), "{name}");
    for product in products.keys().take(5) {
        let expected: Vec<&Item> = all.iter().copied().filter(|item| item.product_id == *product).collect();
        check_same(name, &index.product(product).expect("reads"), &expected);
    }
    let mut categories: BTreeMap<&str, usize> = BTreeMap::new();
    for item in &all {
        *categories.entry(item.metadata["category"].as_str().expect("a text")).or_default() += 1;
    }
    let texts = index.texts("category", 100).expect("counts");
    assert_eq!(
        texts.iter().map(|(text, items)| (text.as_str(), *items)).collect::<BTreeMap<_, _>>(),
        categories
    );
    assert!(texts.is_sorted_by(|a, b| a.1 >= b.1), "{name}: the most frequent first");
}

#[test]
fn what_is_written_is_read_back() {
    for place in Place::all() {
        let (name, index) = (place.name, place.open());
        let (mut dice, mut truth) = (Dice::new(1), Truth::default());
        check_contents(name, &*index, &truth);
        for round in 0..6 {
            let start = round * 30;
            let items: Vec<Item> = (start..start + 60).map(|number| dice.item(number)).collect();
            index.upsert(items.clone()).expect("writes");
            truth.upsert(&items);
            let gone: Vec<String> =
                (0..10).map(|_| format!("item {}", dice.0.random_range(0..400))).collect();
            let there: BTreeSet<&String> = gone.iter().filter(|id| truth.0.contains_key(*id)).collect();
            assert_eq!(index.delete(&gone).expect("deletes"), there.len(), "{name}");
            gone.iter().for_each(|id| drop(truth.0.remove(id)));
            let product = format!("product {round}");
            let before = truth.0.len();
            truth.0.retain(|_, item| item.product_id != product);
            let products = [product, "absent".to_owned()];
            assert_eq!(index.delete_products(&products).expect("deletes"), before - truth.0.len(), "{name}");
        }
        index.flush().expect("flushes");
        check_contents(name, &*index, &truth);
        drop(index);
        check_contents(name, &*place.open(), &truth);
    }
}

#[test]
fn of_two_items_with_one_id_the_later_wins() {
    for place in Place::all() {
        let index = place.open();
        let mut dice = Dice::new(2);
        // In requests of 64, the two are far apart.
        let mut items: Vec<Item> = (0..200).map(|number| dice.item(number)).collect();
        items.push(Item { id: "item 0".into(), ..dice.item(999) });
        let last = items.last().cloned().expect("the one above");
        index.upsert(items).expect("writes");
        assert_eq!(index.count().expect("counts"), 200, "{}", place.name);
        assert!(index.get("item 0").expect("reads").expect("there").is_same(&last), "{}", place.name);
    }
}

#[test]
fn the_items_of_a_product_come_oldest_first() {
    for place in Place::all() {
        let index = place.open();
        let mut dice = Dice::new(3);
        let of = |id: &str, dice: &mut Dice| Item { id: id.into(), product_id: "p".into(), ..dice.item(0) };
        let items = ["z", "m", "a"].map(|id| of(id, &mut dice)).to_vec();
        index.upsert(items).expect("writes");
        index.upsert(vec![of("k", &mut dice)]).expect("writes");
        index.upsert(vec![of("z", &mut dice)]).expect("replaces");
        let ids: Vec<String> = index.product("p").expect("reads").into_iter().map(|item| item.id).collect();
        assert_eq!(ids, ["m", "a", "k", "z"], "{}: one that is written again is the youngest", place.name);
    }
}

#[test]
fn what_cannot_be_stored_is_refused_and_nothing_is_written() {
    for place in Place::all() {
        let (name, index) = (place.name, place.open());
        let good = Dice::new(6).item(0);
        let refused = |item: Item| match index.upsert(vec![good.clone(), item]) {
            Err(IndexError::InvalidItem { reason, .. }) => reason,
            other => panic!("{name}: {other:?}"),
        };
        assert!(refused(Item { id: String::new(), ..good.clone() }).contains("id is empty"));
        assert!(refused(Item { product_id: "x".repeat(2000), ..good.clone() }).contains("2000 bytes"));
        assert!(refused(Item { vector: vec![1.0], ..good.clone() }).contains("1 values"));
        assert!(refused(Item { vector: vec![1.0; DIM], ..good.clone() }).contains("length"));
        assert!(refused(Item { vector: vec![f32::NAN; DIM], ..good.clone() }).contains("NaN"));
        assert_eq!(index.count().expect("counts"), 0, "{name}");
        index.upsert(Vec::new()).expect("nothing is well");
        assert_eq!(index.delete(&[]).expect("nothing is well"), 0);
        assert!(index.patch(Vec::new()).expect("nothing is well").is_empty());
        assert_eq!(index.get("absent").expect("reads"), None);
        assert_eq!(index.product("absent").expect("reads"), []);
        // The longest ids, and strange ones.
        let odd = ["x".repeat(1024), "\u{0}\"\\/".into(), "ü".into(), " ".into()];
        let items: Vec<Item> =
            odd.iter().map(|id| Item { id: id.clone(), product_id: id.clone(), ..good.clone() }).collect();
        index.upsert(items.clone()).expect("writes");
        for item in &items {
            assert!(index.get(&item.id).expect("reads").expect("there").is_same(item), "{name}");
            check_same(name, &index.product(&item.product_id).expect("reads"), &[item]);
        }
    }
}
