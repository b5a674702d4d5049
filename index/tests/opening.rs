//! Several that make the same store at the same time.

use std::{sync::Barrier, thread};

use dfml_index::{EmbeddedIndex, IndexError, Item, OpenOptions, VectorIndex};
use tempfile::TempDir;

const AT_ONCE: usize = 4;
const ROUNDS: usize = 20;

#[test]
fn of_many_that_make_a_store_at_once_one_has_it() {
    let options = OpenOptions { create: true, ..OpenOptions::new(AT_ONCE, "model") };
    let mut made = 0;
    for _ in 0..ROUNDS {
        let folder = TempDir::new().expect("a folder");
        let store = folder.path().join("store");
        let start = Barrier::new(AT_ONCE);
        // Opened and written to, or refused.
        let make = |number: usize| {
            start.wait();
            let index = EmbeddedIndex::open(&store, options.clone())?;
            let mut vector = vec![0.0; AT_ONCE];
            vector[number] = 1.0;
            let item = Item { id: number.to_string(), product_id: "p".into(), vector, ..Item::default() };
            index.upsert(vec![item.clone()])?;
            Ok::<_, IndexError>((index, item))
        };
        let outcomes: Vec<_> = thread::scope(|scope| {
            let make = &make;
            let threads: Vec<_> = (0..AT_ONCE).map(|number| scope.spawn(move || make(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("does not panic")).collect()
        });
        let mut written = Vec::new();
        for outcome in &outcomes {
            match outcome {
                Ok((_, item)) => written.push(item.clone()),
                Err(error) => assert!(matches!(error, IndexError::InUse { .. }), "{error}"),
            }
        }
        assert!(written.len() <= 1, "{} have made the same store", written.len());
        made += written.len();
        drop(outcomes);
        let index = EmbeddedIndex::open(&store, options.clone()).expect("opens");
        assert_eq!(index.page(None, AT_ONCE).expect("reads"), written, "what was acknowledged is there");
    }
    assert!(made > 0, "nobody ever had a store");
}
