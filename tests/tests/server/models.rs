//! Exchanging the model while searches and changes go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
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

/// Asks for a job and waits for its end.
async fn ended(app: &Router, uri: &str, body: Value) -> Value {
    let job = call(app, json("POST", uri, &body)).await.expect(202);
    until(app, &job["id"], |job| !["queued", "running"].contains(&job["state"].as_str().expect("a state")))
        .await
}

/// Asks for an exchange and waits until changes are noted for the next model. How much there is to do is known from then on.
async fn begun(app: &Router, body: Value) -> Value {
    let job = call(app, json("POST", "/v1/models", &body)).await.expect(202);
    until(app, &job["id"], |job| !job["total"].is_null()).await
}

/// The job as soon as it is as it should be.
async fn until(app: &Router, id: &Value, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..3000 {
        let job = call(app, get(&format!("/v1/jobs/{}", id.as_str().expect("an id")))).await.expect(200);
        if is_so(&job) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the job did not come so far");
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

/// Stores items of which there is nothing but a vector, which only the model that serves understands.
async fn put_vectors(app: &Router, ids: &[&str]) {
    let item = |id: &&str| json!({ "id": id, "product_id": id, "vector": vec![1; 32] });
    let items: Vec<Value> = ids.iter().map(item).collect();
    let answer = call(app, json("PUT", "/v1/items", &json!({ "items": items }))).await;
    assert_eq!(answer.expect(200)["failed"], 0);
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

/// The model that serves, and how many items there are.
async fn serving(app: &Router) -> (String, u64) {
    let info = call(app, get("/v1/info")).await.expect(200);
    let model = info["model"]["name"].as_str().expect("a name").to_owned();
    (model, info["index"]["items"].as_u64().expect("a count"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_carried_over_stops_the_exchange() {
    let shop = Shop::open();
    let (_folder, options) = host(&shop);
    let app = app(server::ready(&shop, options));
    put(&app, "early", 30).await;

    // At this pace the pictures take some seconds, in which to change something.
    let job = begun(&app, json!({ "model": "other", "images_per_second": 10.0 })).await;
    put_vectors(&app, &["bare", "early"]).await;
    let job = until(&app, &job["id"], |job| job["state"] != "running").await;
    assert_eq!(job["state"], "failed", "{job}");
    let error = job["error"].as_str().expect("an error");
    assert!(error.starts_with("2 items have no picture") && error.contains(r#""bare", "early""#), "{error}");
    assert_eq!(serving(&app).await, ("tiny-random".to_owned(), 36 + 2), "nothing is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn next_to_no_pace_takes_for_ever_but_not_longer_than_it_is_wanted() {
    let shop = Shop::open();
    let (_folder, options) = host(&shop);
    let app = app(server::ready(&shop, options));
    let job = begun(&app, json!({ "model": "other", "images_per_second": 1e-17 })).await;
    let address = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
    let cancel = Request::delete(address).body(Body::empty()).expect("a request");
    call(&app, cancel).await.expect(200);
    let job = until(&app, &job["id"], |job| job["state"] != "running").await;
    assert_eq!(job["state"], "cancelled", "{job}");
    let job = ended(&app, "/v1/models", json!({ "model": "other" })).await;
    assert_eq!(job["state"], "done", "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_brings_along_imports_and_other_pictures_under_the_same_path() {
    let shop = Shop::open();
    let (_folder, options) = host(&shop);
    let app = app(server::ready(&shop, HttpOptions { keep_uploads: false, ..options }));
    let window = async |class: u64| {
        let png = pictures::png(class, 0);
        fs_err::write(shop.pictures().join("window.png"), &png).expect("write");
        let image = data_uri("png", &png);
        let item = json!({ "id": "window", "product_id": "window", "image": image, "metadata": { "path": "window.png" } });
        let stored = call(&app, json("PUT", "/v1/items", &json!({ "items": [item] }))).await.expect(200);
        assert_eq!(stored["failed"], 0, "{stored}");
    };
    window(60).await;
    let job = ended(&app, "/v1/models", json!({ "model": "other" })).await;
    assert_eq!((&job["state"], &job["result"]["items"]), (&json!("done"), &json!(37)), "{job}");

    window(61).await;
    pictures::write_list(&shop.pictures(), "more.txt", &[20, 21], 0..2);
    let job = ended(&app, "/v1/import", json!({ "list": "more.txt" })).await;
    assert_eq!(job["result"]["embedded"], 4, "{job}");
    let job = ended(&app, "/v1/models/rollback", json!({})).await;
    assert_eq!((&job["state"], &job["result"]["missing"]), (&json!("done"), &json!(0)), "{job}");
    assert_eq!(serving(&app).await, ("tiny-random".to_owned(), 37 + 4));
    let product = call(&app, get("/v1/products/20")).await.expect(200);
    assert_eq!(product["items"].as_array().map(Vec::len), Some(2), "{product}");
    let body = json!({ "image": data_uri("png", &pictures::png(61, 0)), "k": 1 });
    let found = call(&app, json("POST", "/v1/search", &body)).await.expect(200);
    assert_eq!(found["results"][0]["product_id"], "window", "{found}");
    assert!(
        found["results"][0]["score"].as_f64() > Some(0.9999),
        "the vector is of the new picture: {found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_loses_nothing_that_it_may_not_lose() {
    let shop = Shop::open();
    let (_folder, options) = host(&shop);
    let app = app(server::ready(&shop, options));
    put(&app, "early", 30).await;
    let job = ended(&app, "/v1/models", json!({ "model": "other" })).await;
    assert_eq!(job["state"], "done", "{job}");
    put_vectors(&app, &["early", "bare"]).await;
    put(&app, "later", 31).await;

    // The second time as the first: what was not carried over is still noted.
    for _ in 0..2 {
        let job = ended(&app, "/v1/models/rollback", json!({})).await;
        assert_eq!(job["state"], "failed", "{job}");
        let error = job["error"].as_str().expect("an error");
        assert!(error.starts_with("2 items have no picture") && error.contains("\"early\""), "{error}");
        assert_eq!(serving(&app).await, ("tiny-other".to_owned(), 36 + 3));
    }
    let unclear = call(&app, json("POST", "/v1/models/rollback?allow_missing=perhaps", &json!({}))).await;
    unclear.expect_problem(400, "invalid_parameter", "allow_missing");
    let job = ended(&app, "/v1/models/rollback?allow_missing=true", json!({})).await;
    assert_eq!((&job["state"], &job["result"]["missing"]), (&json!("done"), &json!(2)), "{job}");
    assert_eq!(serving(&app).await, ("tiny-random".to_owned(), 36 + 1));
    // The model before has its own, older copy no more.
    assert_eq!(call(&app, get("/v1/items/early")).await.status, 404);
    assert_eq!(call(&app, get("/v1/items/later")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_loaded_does_not_tell_where_it_is() {
    let shop = Shop::open();
    let (folder, options) = host(&shop);
    fs_err::create_dir_all(folder.path().join("models/empty")).expect("create");
    let app = app(server::ready(&shop, options));
    let job = ended(&app, "/v1/models", json!({ "model": "empty" })).await;
    assert_eq!(job["state"], "failed", "{job}");
    let error = job["error"].as_str().expect("an error");
    assert_eq!(error, "the model cannot be loaded; the server's log has the details");
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
