//! Changes to metadata: merged, by many writers, within their limit.

use std::collections::BTreeSet;

use dfml_index::{Item, Patch};
use serde_json::{Map, Value, json};

use crate::{
    contents::check_contents,
    place::Place,
    truth::{Dice, Truth},
};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

fn ids(numbers: &[usize]) -> BTreeSet<String> {
    numbers.iter().map(|number| format!("item {number}")).collect()
}

#[test]
fn patches_merge() {
    for place in Place::all() {
        let (name, index) = (place.name, place.open());
        let (mut dice, mut truth) = (Dice::new(4), Truth::default());
        let items: Vec<Item> = (0..100).map(|number| dice.item(number)).collect();
        index.upsert(items.clone()).expect("writes");
        truth.upsert(&items);
        let patches: Vec<Patch> = (0..150)
            .map(|number| Patch {
                // Some are not there, and most are patched more than once.
                ids: ids(&[number % 120, number * 7 % 120]),
                metadata: object(
                    json!({"category": format!("category {number}"), "width": null, "nested": {"big": number}}),
                ),
            })
            .collect();
        let mut expected = vec![0; patches.len()];
        for (patch, changed) in patches.iter().zip(&mut expected) {
            for id in &patch.ids {
                if let Some(item) = truth.0.get_mut(id) {
                    item.metadata = patch.merged(id, &item.metadata).expect("it fits");
                    *changed += 1;
                }
            }
        }
        // Twice, with the same outcome.
        for _ in 0..2 {
            let outcomes = index.patch(patches.clone()).expect("patches").into_iter();
            assert_eq!(outcomes.collect::<Result<Vec<usize>, _>>().expect("all fit"), expected, "{name}");
            check_contents(name, &*index, &truth);
        }
    }
}

#[test]
fn patches_of_many_writers_do_not_undo_each_other() {
    const WRITERS: usize = 4;
    const EACH: usize = 6;
    for place in Place::all() {
        let index = place.open();
        index.upsert(vec![Dice::new(5).item(1)]).expect("writes");
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (place, index) = (&place, &index);
                scope.spawn(move || {
                    // Where several processes may have it open, each writer is one.
                    let own = place.is_shared().then(|| place.open());
                    let index = own.as_ref().unwrap_or(index);
                    for number in 0..EACH {
                        let metadata = object(json!({ format!("{writer} {number}"): true }));
                        let outcomes =
                            index.patch(vec![Patch { ids: ids(&[1]), metadata }]).expect("patches");
                        assert!(matches!(outcomes[..], [Ok(1)]), "{outcomes:?}");
                    }
                });
            }
        });
        let item = index.get("item 1").expect("reads").expect("there");
        let kept = item.metadata.values().filter(|value| **value == json!(true)).count();
        let before = usize::from(item.metadata["new"] == json!(true));
        assert_eq!(kept - before, WRITERS * EACH, "{}: none is lost", place.name);
    }
}

#[test]
fn a_patch_that_one_of_its_items_cannot_take_changes_none_of_them() {
    for place in Place::all() {
        let (name, index) = (place.name, place.open());
        let mut dice = Dice::new(7);
        let mut items: Vec<Item> = (0..3).map(|number| dice.item(number)).collect();
        items[1].metadata.insert("note".into(), "x".repeat(60 << 10).into());
        index.upsert(items.clone()).expect("writes");
        let long = object(json!({"long": "y".repeat(10 << 10)}));
        let patches = [
            Patch { ids: ids(&[0, 1]), metadata: long.clone() },
            Patch { ids: ids(&[1, 2]), metadata: object(json!({"category": "changed"})) },
            Patch { ids: ids(&[0, 2]), metadata: long },
        ];
        let outcomes = index.patch(patches.to_vec()).expect("the others are made");
        let refused = outcomes[0].as_ref().expect_err("too large").to_string();
        assert!(refused.contains("\"item 1\"") && refused.contains("65536"), "{name}: {refused}");
        assert!(matches!(outcomes[1..], [Ok(2), Ok(2)]), "{name}: {outcomes:?}");
        for (item, made) in items.iter_mut().zip([&patches[2..], &patches[1..2], &patches[1..]]) {
            for patch in made {
                item.metadata = patch.merged(&item.id, &item.metadata).expect("it fits");
            }
            let found = index.get(&item.id).expect("reads").expect("there");
            assert!(found.is_same(item), "{name}: {:?}", item.id);
        }
    }
}
