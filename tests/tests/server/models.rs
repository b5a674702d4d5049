//! Exchanging the model while searches and changes go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use dfml_serve::{
    engine::{BatchOptions, EngineOptions},
    http::{Active, HttpOptions, ModelHost, app},
};
use dfml_tests::{
    form::{call, data_uri, get, json},
    pictures, server,
    shop::{PRODUCTS, Shop, write_model},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A shop whose server may load the models in a folder: `other`, which has other random weights.
fn host(shop: &Shop) -> (TempDir, HttpOptions) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let models = folder.path().join("models");
    write_model(&models.join("other"), "tiny-other", 8);
    let host = ModelHost {
        models,
        stores: folder.path().join("stores"),
        engine: EngineOptions { threads: Some(1), ..EngineOptions::default() },
        batch: BatchOptions::default(),
        tuning: dfml_index::Tuning::default(),
    };
    let options = HttpOptions {
        models: Some(host),
        keep_uploads: true,
        import_dir: Some(shop.pictures()),
        ..server::options(shop)
    };
    (folder, options)
}

async fn ended(app: &Router, uri: &str, body: Value) -> Value {
    let job = call(app, json("POST", uri, &body)).await.expect(202);
    for _ in 0..600 {
        let job =
            call(app, get(&format!("/v1/jobs/{}", job["id"].as_str().expect("an id")))).await.expect(200);
        if !["queued", "running"].contains(&job["state"].as_str().expect("a state")) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the job did not end");
}

async fn put(app: &Router, id: &str, class: u64) {
    let items = json!([{ "id": id, "product_id": id, "image": data_uri("png", &pictures::png(class, 0)) }]);
    // While the two change places, a change is sent again.
    for _ in 0..20 {
        let answer = call(app, json("PUT", "/v1/items", &json!({ "items": items }))).await;
        if answer.status == 409 {
            continue;
        }
        assert_eq!(answer.expect(200)["failed"], 0);
        return;
    }
    panic!("{id} was never stored");
}

async fn search(app: &Router, class: u64) -> Value {
    let body = json!({ "image": data_uri("jpeg", &pictures::jpeg(class, 0)), "k": 1 });
    call(app, json("POST", "/v1/search", &body)).await.expect(200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_model_is_exchanged_under_load_without_mixing_vectors_or_losing_changes() {
    let shop = Shop::open();
    let (folder, options) = host(&shop);
    let app = app(server::ready(&shop, options));
    let before = call(&app, get("/v1/models")).await.expect(200);
    assert_eq!((&before["available"], &before["previous"]), (&json!(["other"]), &Value::Null));

    // Searches all the time: the same file is found with similarity 1, unless its vector is another model's.
    let (stop, searches) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let searching: Vec<_> = (0..2)
        .map(|worker| {
            let (app, stop, searches) = (app.clone(), Arc::clone(&stop), Arc::clone(&searches));
            tokio::spawn(async move {
                let mut models = std::collections::BTreeSet::new();
                for class in (worker..).step_by(2) {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let class = class % PRODUCTS;
                    let found = search(&app, class).await;
                    assert_eq!(found["results"][0]["product_id"], class.to_string(), "{found}");
                    assert!(found["results"][0]["score"].as_f64() > Some(0.999), "{found}");
                    models.insert(found["model"].to_string());
                    searches.fetch_add(1, Ordering::SeqCst);
                }
                models
            })
        })
        .collect();
    // Changes meanwhile: new items, one that is replaced, one that is deleted.
    put(&app, "early", 30).await;
    let changing = tokio::spawn({
        let app = app.clone();
        async move {
            for class in 31..41 {
                put(&app, &format!("late-{class}"), class).await;
            }
            let gone = json!({ "ids": ["early", "late-31"] });
            while call(&app, json("DELETE", "/v1/items", &gone)).await.status == 409 {}
        }
    });
    let job = ended(
        &app,
        "/v1/models",
        json!({ "model": "other", "queries": "gallery.txt", "images_per_second": 200.0 }),
    )
    .await;
    changing.await.expect("no panic");
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(job["result"]["recall_at_1"]["after"], 1.0, "{job}");
    for class in 0..PRODUCTS {
        search(&app, class).await;
    }
    stop.store(true, Ordering::SeqCst);
    for worker in searching {
        let models = worker.await.expect("every search was answered from one model's vectors");
        assert!(models.len() <= 2, "{models:?}");
    }
    assert!(searches.load(Ordering::SeqCst) > 20);
    let info = call(&app, get("/v1/info")).await.expect(200);
    assert_eq!((&info["model"]["name"], &info["index"]["items"]), (&json!("tiny-other"), &json!(36 + 9)));
    for class in 32..41 {
        assert_eq!(call(&app, get(&format!("/v1/items/late-{class}"))).await.status, 200, "late-{class}");
    }
    assert_eq!(call(&app, get("/v1/items/early")).await.status, 404);
    let active = Active::read(&folder.path().join("stores")).expect("readable").expect("written down");
    assert!(active.model.ends_with("models/other"), "{active:?}");

    // And back, with what was changed since.
    put(&app, "later", 50).await;
    let job = ended(&app, "/v1/models/rollback", json!({})).await;
    assert_eq!(job["state"], "done", "{job}");
    let info = call(&app, get("/v1/info")).await.expect(200);
    assert_eq!((&info["model"]["name"], &info["index"]["items"]), (&json!("tiny-random"), &json!(36 + 10)));
    let found = search(&app, 50).await;
    assert_eq!(found["results"][0]["product_id"], "later", "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_good_enough_or_loses_items_does_not_take_over() {
    let shop = Shop::open();
    let (_folder, options) = host(&shop);
    let app = app(server::ready(&shop, options));
    // Queries whose right answers are wrong: no model finds them.
    let list = fs_err::read_to_string(shop.pictures().join("gallery.txt")).expect("the list");
    let wrong: String = list
        .lines()
        .enumerate()
        .map(|(number, line)| match (number, line.split_whitespace().collect::<Vec<_>>().as_slice()) {
            (1.., [image, class, rest, path]) => {
                format!("{image} {} {rest} {path}\n", class.parse::<u64>().expect("a class") + 100)
            }
            _ => format!("{line}\n"),
        })
        .collect();
    fs_err::write(shop.pictures().join("wrong.txt"), wrong).expect("write");
    let job = ended(
        &app,
        "/v1/models",
        json!({ "model": "other", "queries": "wrong.txt", "min_recall_at_1": 0.5 }),
    )
    .await;
    assert_eq!(job["state"], "failed");
    assert!(
        job["error"].as_str().is_some_and(|error| error.contains("0.0000") && error.contains("0.5000")),
        "{job}"
    );

    // An item that has only a vector cannot be embedded again.
    let items = json!([{ "id": "bare", "product_id": "bare", "vector": vec![1; 32] }]);
    call(&app, json("PUT", "/v1/items", &json!({ "items": items }))).await.expect(200);
    let job = ended(&app, "/v1/models", json!({ "model": "other" })).await;
    assert!(job["error"].as_str().is_some_and(|error| error.starts_with("1 items have no picture")), "{job}");
    let info = call(&app, get("/v1/info")).await.expect(200);
    assert_eq!(
        (&info["model"]["name"], &info["index"]["items"]),
        (&json!("tiny-random"), &json!(37)),
        "nothing has changed"
    );

    let job = ended(&app, "/v1/models", json!({ "model": "other", "allow_missing": true })).await;
    assert_eq!((&job["state"], &job["result"]["missing"]), (&json!("done"), &json!(1)), "{job}");
    for path in ["../models/other", "/etc", "nothing"] {
        call(&app, json("POST", "/v1/models", &json!({ "model": path }))).await.expect_problem(
            422,
            "model_path",
            "",
        );
    }
}

#[tokio::test]
async fn without_a_folder_of_models_nothing_is_loaded() {
    let shop = Shop::open();
    let app = app(server::ready(&shop, server::options(&shop)));
    call(&app, json("POST", "/v1/models", &json!({ "model": "other" }))).await.expect_problem(
        403,
        "switched_off",
        "models_dir",
    );
    call(&app, json("POST", "/v1/models/rollback", &json!({}))).await.expect_problem(
        403,
        "switched_off",
        "models_dir",
    );
}
