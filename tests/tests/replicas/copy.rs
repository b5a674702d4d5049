//! `dfml index copy` either way.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use dfml_index::{EmbeddedIndex, Item, OpenOptions, SearchRequest, VectorIndex};
use dfml_qdrant::QdrantIndex;
use dfml_tests::engine::{self, Engine};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::program::{dfml, printed, run, settings};

const DIM: usize = 48;
const MODEL: &str = "c0ffee0000000000000000000000";
const QUERIES: usize = 50;

/// Items to copy; `COPY_ITEMS` names another number, e.g. 100000.
fn count() -> usize {
    std::env::var("COPY_ITEMS").ok().and_then(|text| text.parse().ok()).unwrap_or(5000)
}

fn vector(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let vector: Vec<f32> = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.into_iter().map(|value| value / length).collect()
}

fn fill(index: &EmbeddedIndex, count: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    for start in (0..count).step_by(4096) {
        let items = (start..(start + 4096).min(count)).map(|number| {
            let metadata = json!({ "category": format!("c{}", number % 9), "price": number as f64 / 100.0,
                "tags": ["a", number], "name": format!("thing no. {number}") });
            Item {
                id: format!("item {number}"),
                product_id: format!("p{}", number / 4),
                vector: vector(&mut rng),
                metadata: metadata.as_object().cloned().expect("an object"),
            }
        });
        index.upsert(items.collect()).expect("writes");
    }
}

fn top(index: &dyn VectorIndex) -> Vec<Vec<String>> {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    let requests: Vec<SearchRequest> =
        (0..QUERIES).map(|_| SearchRequest { exact: true, ..SearchRequest::new(vector(&mut rng)) }).collect();
    let answers = index.search_many(&requests).expect("searches");
    answers.into_iter().map(|hits| hits.into_iter().map(|hit| hit.item_id).collect()).collect()
}

#[test]
fn a_copy_there_and_back_is_the_same_catalogue() {
    // Exact searches need no graph, and a hundred thousand items would be kept waiting for it.
    let engine = Engine::start_with(&["--graph-from-kb", "1000000"]);
    let (folder, count) = (tempfile::tempdir().expect("temporary folder"), count());
    let file = settings(folder.path(), &engine.url());
    let (store, back) = (folder.path().join("store"), folder.path().join("back"));
    let options = OpenOptions { create: true, ..OpenOptions::new(DIM, MODEL) };
    let expected = {
        let index = EmbeddedIndex::open(&store, options.clone()).expect("opens");
        fill(&index, count);
        top(&index)
    };
    let there = |arguments: &[&str]| {
        let mut command = dfml(&file, &["index", "copy", "--from"]);
        command.arg(&store).args(["--to", "qdrant"]).args(arguments);
        command
    };
    let backwards = || {
        let mut command = dfml(&file, &["index", "copy", "--from", "qdrant", "--to"]);
        command.arg(&back);
        command
    };
    // Broken off early, and taken up again.
    let mut broken = there(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("dfml starts");
    let (start, qdrant) = (Instant::now(), engine::options(&engine.url(), "shop"));
    while start.elapsed() < Duration::from_secs(20) {
        if QdrantIndex::open_current(&qdrant).and_then(|index| index.count()).is_ok_and(|items| items > 0) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    broken.kill().expect("SIGKILL");
    broken.wait().expect("it ends");
    let text = printed(there(&[]));
    println!("{text}");
    assert!(text.contains(&format!("{count} items as in")), "{text}");
    let again = printed(there(&[]));
    assert!(again.contains("0 stored"), "nothing is written twice: {again}");
    let text = printed(backwards());
    println!("{text}");
    assert!(text.contains(&format!("{count} items as in")), "{text}");

    let remote = QdrantIndex::open_current(&qdrant).expect("opens");
    assert_eq!(top(&remote), expected, "the same top 10 on the engine");
    let index = EmbeddedIndex::open(&back, options).expect("opens");
    assert_eq!(top(&index), expected, "and back");
    drop(index);

    // One that is not the same is found out.
    remote.delete(&["item 3".to_owned()]).expect("deletes");
    let output = run(there(&["--verify-only"]));
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("is no copy of"), "{told}");
    let mut item = remote.get("item 4").expect("reads").expect("there");
    item.vector = remote.get("item 5").expect("reads").expect("there").vector;
    remote.upsert(vec![item]).expect("writes");
    let text = printed(there(&[]));
    assert!(text.contains("2 stored"), "what is missing and what differs: {text}");
    // An engine that is not there has an exit code of its own.
    drop(engine);
    assert_eq!(run(there(&["--verify-only"])).status.code(), Some(4));
}
