//! Imports and duplicates as jobs, and what a restart leaves of them.

use std::time::Duration;

use axum::{Router, body::Body, http::Request};
use dfml_serve::http::{AppState, HttpOptions, app};
use dfml_tests::{
    form::{call, get, json},
    pictures, server,
    shop::Shop,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a list of pictures: classes 20 to 23, 6 views each, and one file that is no picture.
fn import_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    pictures::write_list(folder.path(), "list.txt", &[20, 21, 22, 23], 0..6);
    fs_err::write(folder.path().join("triangle_final/20_5.JPG"), "not a picture").expect("write");
    let product = json!({ "id": "20", "name": "Imported", "category": "Imports" });
    fs_err::write(folder.path().join("products.jsonl"), format!("{product}\n")).expect("write");
    folder
}

fn options(shop: &Shop, import: &TempDir, jobs: &TempDir) -> HttpOptions {
    HttpOptions {
        import_dir: Some(import.path().to_path_buf()),
        jobs_dir: Some(jobs.path().to_path_buf()),
        ..server::options(shop)
    }
}

/// The job once it has ended.
async fn ended(app: &Router, id: &str) -> Value {
    for _ in 0..400 {
        let job = call(app, get(&format!("/v1/jobs/{id}"))).await.expect(200);
        if !["queued", "running"].contains(&job["state"].as_str().expect("a state")) {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("job {id} did not end");
}

async fn submit(app: &Router, uri: &str, body: Value) -> Value {
    let answer = call(app, json("POST", uri, &body)).await;
    let job = answer.expect(202);
    assert_eq!(answer.header("location"), format!("/v1/jobs/{}", job["id"].as_str().expect("an id")));
    ended(app, job["id"].as_str().expect("an id")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_imported_and_a_bad_picture_is_named() {
    let (shop, import, jobs) =
        (Shop::open(), import_folder(), tempfile::tempdir().expect("temporary folder"));
    let app = app(server::ready(&shop, options(&shop, &import, &jobs)));
    let job = submit(&app, "/v1/import", json!({ "list": "list.txt", "products": "products.jsonl" })).await;
    assert_eq!(
        (&job["state"], &job["done"], &job["total"], &job["failed"]),
        (&json!("done"), &json!(24), &json!(24), &json!(1))
    );
    assert_eq!(job["result"]["embedded"], 23);
    let failure = job["failures"][0].as_str().expect("a failure");
    assert!(failure.contains("line 7") && failure.contains("20_5.JPG"), "{failure}");
    assert!(
        !failure.contains(import.path().to_str().expect("UTF-8")),
        "the folder is the server's business: {failure}"
    );
    let product = call(&app, get("/v1/products/20")).await.expect(200);
    assert_eq!(
        (product["items"].as_array().map(Vec::len), &product["items"][0]["metadata"]["name"]),
        (Some(5), &json!("Imported"))
    );
    let again = submit(&app, "/v1/import", json!({ "list": "list.txt", "products": "products.jsonl" })).await;
    assert_eq!((&again["result"]["embedded"], &again["result"]["unchanged"]), (&json!(0), &json!(23)));
    let listed = call(&app, get("/v1/jobs")).await.expect(200);
    assert_eq!((listed["jobs"].as_array().map(Vec::len), &listed["jobs"][0]["id"]), (Some(2), &again["id"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_stay_inside_their_folder_and_are_off_without_one() {
    let (shop, import, jobs) =
        (Shop::open(), import_folder(), tempfile::tempdir().expect("temporary folder"));
    let off = app(server::ready(&shop, server::options(&shop)));
    let refused = call(&off, json("POST", "/v1/import", &json!({ "list": "list.txt" }))).await;
    refused.expect_problem(403, "switched_off", "import_dir");
    drop(off);
    let app = app(server::ready(&shop, options(&shop, &import, &jobs)));
    let secret = shop.model().join("manifest.json");
    for path in
        ["../list.txt", "/etc/passwd", secret.to_str().expect("UTF-8"), "a/../../x", "missing.txt", ""]
    {
        let refused = call(&app, json("POST", "/v1/import", &json!({ "list": path }))).await;
        assert_eq!(refused.status, 422, "{path}: {}", refused.text());
    }
    // A list may not lead out of the folder either.
    let list = "image_id class_id super_class_id path\n1 1 1 ../../secret.jpg\n";
    fs_err::write(import.path().join("evil.txt"), list).expect("write");
    let job = submit(&app, "/v1/import", json!({ "list": "evil.txt" })).await;
    assert_eq!(job["state"], "failed", "{job}");
    let error = job["error"].as_str().expect("an error");
    assert!(error.starts_with("evil.txt:2: "), "the folder is the server's business: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_resumed_and_survives_the_end_of_the_server() {
    let (shop, import, jobs) =
        (Shop::open(), import_folder(), tempfile::tempdir().expect("temporary folder"));
    let state = server::ready(&shop, options(&shop, &import, &jobs));
    let first = app(state.clone());
    let queued = call(&first, json("POST", "/v1/import", &json!({ "list": "list.txt" }))).await.expect(202);
    let id = queued["id"].as_str().expect("an id").to_owned();
    let cancel = Request::delete(format!("/v1/jobs/{id}")).body(Body::empty()).expect("a request");
    let cancelled = call(&first, cancel).await.status.as_u16();
    let job = ended(&first, &id).await;
    // It may have been quicker than the cancellation.
    assert!(
        job["state"] == "cancelled" || (job["state"] == "done" && [200, 409].contains(&cancelled)),
        "{job} {cancelled}"
    );
    if job["state"] == "cancelled" {
        let resumed =
            call(&first, json("POST", &format!("/v1/jobs/{id}/resume"), &json!({}))).await.expect(202);
        assert_eq!(resumed["id"], id.as_str());
        assert_eq!(ended(&first, &id).await["state"], "done");
    }
    let done = call(&first, json("POST", &format!("/v1/jobs/{id}/resume"), &json!({}))).await;
    done.expect_problem(409, "conflict", "has done everything");
    call(&first, get("/v1/jobs/nobody")).await.expect_problem(404, "job_not_found", "nobody");

    // As if the server had ended in the middle: the record says that the job is at work.
    drop((first, state));
    let record = jobs.path().join(format!("{id}.json"));
    let text = fs_err::read_to_string(&record)
        .expect("the record")
        .replace("\"state\": \"done\"", "\"state\": \"running\"");
    fs_err::write(&record, text).expect("write");
    fs_err::write(jobs.path().join("broken.json"), "{").expect("write");
    let (state, metrics) = server::loading(options(&shop, &import, &jobs));
    let second = app(state.clone());
    assert_eq!(call(&second, get(&format!("/v1/jobs/{id}"))).await.expect(200)["state"], "interrupted");
    install(&state, &shop, metrics);
    call(&second, json("POST", &format!("/v1/jobs/{id}/resume"), &json!({}))).await.expect(202);
    let job = ended(&second, &id).await;
    assert_eq!((&job["state"], &job["result"]["unchanged"]), (&json!("done"), &json!(23)), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_that_follows_a_resumption_is_heeded() {
    let (shop, jobs) = (Shop::open(), tempfile::tempdir().expect("temporary folder"));
    let path = jobs.path().join("first.json");
    let view = json!({
        "id": "first", "kind": "duplicates", "state": "cancelled", "created_unix": 1, "done": 0, "failed": 0, "failures": [],
    });
    let record = json!({ "view": view, "spec": { "duplicates": { "threshold": 0.99 } } });
    fs_err::write(&path, record.to_string()).expect("write");
    // Without its model the server cannot begin the job.
    let options = HttpOptions { jobs_dir: Some(jobs.path().to_path_buf()), ..server::options(&shop) };
    let (state, metrics) = server::loading(options);
    let app = app(state.clone());
    call(&app, json("POST", "/v1/jobs/first/resume", &json!({}))).await.expect(202);
    let text = fs_err::read_to_string(&path).expect("the record");
    assert!(text.contains("\"state\": \"queued\""), "it is written down before it is answered: {text}");
    let cancel = Request::delete("/v1/jobs/first").body(Body::empty()).expect("a request");
    assert_eq!(call(&app, cancel).await.expect(200)["state"], "queued");
    state.install(server::backend(&shop, metrics));
    assert_eq!(ended(&app, "first").await["state"], "cancelled");
}

#[tokio::test]
async fn a_job_that_cannot_be_written_down_is_not_accepted() {
    let (shop, jobs) = (Shop::open(), tempfile::tempdir().expect("temporary folder"));
    let options = HttpOptions { jobs_dir: Some(jobs.path().to_path_buf()), ..server::options(&shop) };
    let app = app(server::ready(&shop, options));
    fs_err::remove_dir_all(jobs.path()).expect("remove");
    let refused = call(&app, json("POST", "/v1/duplicates", &json!({ "threshold": 0.99 }))).await;
    refused.expect_problem(500, "internal", "its log has the details");
    assert_eq!(call(&app, get("/v1/jobs")).await.expect(200), json!({ "jobs": [] }));
}

fn install(state: &AppState, shop: &Shop, metrics: std::sync::Arc<dfml_serve::metrics::Metrics>) {
    // The index of the server before is closed as soon as its last job has let go of it.
    for _ in 0..100 {
        if shop.is_free() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    state.install(server::backend(shop, metrics));
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_found_as_a_job() {
    let shop = Shop::open();
    let app = app(server::ready(&shop, server::options(&shop)));
    // The same file under two names and two products.
    let twin = json!([{ "id": "twin", "product_id": "twin", "image": dfml_tests::form::data_uri("jpeg", &pictures::jpeg(3, 0)) }]);
    call(&app, json("PUT", "/v1/items", &json!({ "items": twin }))).await.expect(200);
    let job = submit(&app, "/v1/duplicates", json!({ "threshold": 0.9999, "across_products": true })).await;
    assert_eq!((&job["state"], &job["done"]), (&json!("done"), &json!(37)));
    assert_eq!(job["result"]["clusters_found"], 1, "{job}");
    let cluster = &job["result"]["clusters"][0];
    let ids: Vec<_> =
        cluster["items"].as_array().expect("items").iter().map(|item| item["item_id"].as_str()).collect();
    assert_eq!(ids, [Some("ring_final/3_0.JPG#9"), Some("twin")]);
    for (body, code) in [
        (json!({}), "invalid_threshold"),
        (json!({ "threshold": 0.9, "min_probability": 0.9 }), "invalid_threshold"),
        (json!({ "threshold": 2.0 }), "invalid_threshold"),
        // One in 32 bits, more than that as it is written.
        (json!({ "threshold": 1.000_000_000_000_000_2 }), "invalid_threshold"),
        (json!({ "min_probability": 0.9 }), "not_calibrated"),
    ] {
        call(&app, json("POST", "/v1/duplicates", &body)).await.expect_problem(422, code, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_result_is_an_excerpt_that_says_so_and_is_not_in_the_list() {
    let shop = Shop::open();
    let app = app(server::ready(&shop, server::options(&shop)));
    // All with one vector: one cluster of 140 at least, with whatever else is near.
    for part in 0..7 {
        let item = |number: usize| json!({ "id": format!("same-{part}-{number}"), "product_id": "same", "vector": vec![1; 32] });
        let items: Vec<Value> = (0..20).map(item).collect();
        let stored = call(&app, json("PUT", "/v1/items", &json!({ "items": items }))).await.expect(200);
        assert_eq!(stored["failed"], 0, "{stored}");
    }
    let job = submit(&app, "/v1/duplicates", json!({ "threshold": -1.0 })).await;
    let result = &job["result"];
    assert_eq!((&job["state"], &result["items"]), (&json!("done"), &json!(36 + 140)), "{job}");
    let clusters = result["clusters"].as_array().expect("clusters");
    let shown = |cluster: &Value| cluster["items"].as_array().expect("items").len();
    assert_eq!(shown(&clusters[0]), 100, "{job}");
    assert!(clusters[0]["items_left_out"].as_u64() >= Some(40), "{job}");
    let shown: usize = clusters.iter().map(shown).sum();
    assert_eq!((&result["items_left_out"], &result["clusters_left_out"]), (&json!(176 - shown), &json!(0)));

    let listed = call(&app, get("/v1/jobs")).await.expect(200);
    assert_eq!((&listed["jobs"][0]["id"], listed["jobs"][0].get("result")), (&job["id"], None));
}
