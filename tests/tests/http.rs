//! The HTTP interface: searches, wrong input, load, probes. A tiny random model on the real ONNX Runtime, through the
//! router without a socket where none is needed.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Request, StatusCode, header},
};
use dfml_index::{Item, VectorIndex};
use dfml_serve::http::{HttpOptions, SearchResponse, app};
use dfml_tests::{
    form::{Answer, Form, call, get, post},
    metrics::value,
    pictures,
    server::{self, Running},
    shop::{PRODUCTS, Shop, category},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

fn ready_app(shop: &Shop) -> Router {
    app(server::ready(shop, server::options(shop)))
}

async fn search(app: &Router, form: Form) -> SearchResponse {
    let answer = call(app, form.search()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("the documented shape")
}

fn picture(class: u64) -> Form {
    Form::new().file("image", "query.jpg", &pictures::jpeg(class, 0))
}

#[tokio::test]
async fn every_picture_finds_its_product_first_and_each_product_once() {
    let shop = Shop::open();
    let app = ready_app(&shop);
    for class in 0..PRODUCTS {
        let found = search(&app, picture(class).text("k", "12")).await;
        let first = &found.results[0];
        assert_eq!(first.product_id, class.to_string(), "scores {:?}", found.results);
        assert!(first.score > 0.999, "the same file again, but score {}", first.score);
        let products: HashSet<_> = found.results.iter().map(|result| &result.product_id).collect();
        assert_eq!(products.len(), PRODUCTS as usize, "one result per product");
        assert!(found.results.is_sorted_by(|a, b| a.score >= b.score), "best first");
        assert!(found.results.iter().map(|result| result.rank).eq(1..=PRODUCTS as usize));
    }
}

#[tokio::test]
async fn a_result_says_what_it_is_and_where_its_picture_is() {
    let shop = Shop::open();
    let app = ready_app(&shop);
    let found = search(&app, picture(4)).await;
    assert_eq!(found.query.map(|image| (image.width, image.height)), Some((112, 96)));
    assert!(found.model.starts_with("tiny-random@"), "{}", found.model);
    assert!(found.timings_ms.total >= found.timings_ms.embed && found.timings_ms.embed > 0.0);
    let first = &found.results[0];
    assert_eq!(first.name.as_deref(), Some("cross no. 4"));
    assert_eq!(first.category.as_deref(), Some("Round & even"));
    assert_eq!(first.creator.as_deref(), Some("Ada Example"));
    assert_eq!(first.license.as_deref(), Some("CC-BY 4.0"));
    assert_eq!(first.metadata, *json!({ "width_cm": 14 }).as_object().expect("an object"));
    let url = first.image_url.as_deref().expect("a picture");
    let shown = call(&app, get(url)).await;
    assert_eq!(shown.status, StatusCode::OK, "{url}: {}", shown.text());
    assert_eq!(shown.header(header::CONTENT_TYPE), "image/jpeg");
    assert!(
        shown.header(header::CONTENT_SECURITY_POLICY).contains("sandbox"),
        "a picture cannot run anything"
    );
    assert_eq!(shown.body, pictures::jpeg(4, 0));
}

#[tokio::test]
async fn the_body_may_be_the_image_itself_and_parameters_the_query_string() {
    let shop = Shop::open();
    let app = ready_app(&shop);
    let ask = async |query: &str| {
        let uri = format!("/v1/search?{query}");
        let answer = call(&app, post(&uri, "image/png", pictures::png(6, 0))).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        serde_json::from_slice::<SearchResponse>(&answer.body).expect("the documented shape").results
    };
    let all = ask("k=12").await;
    assert_eq!(all[0].product_id, "6");
    assert_eq!(ask("k=3").await, all[..3]);
    assert_eq!(ask("k=3&offset=2").await, all[2..5]);
    assert_eq!(ask(&format!("threshold={}", all[4].score)).await, all[..5]);
    assert_eq!(ask("k=12&exact=true").await, all);
    let even = ask("category=Round+%26+even").await;
    assert_eq!(even.len(), PRODUCTS as usize / 2, "the filter is part of the search, so k is filled");
    assert!(even.iter().all(|result| result.category.as_deref() == Some(category(0))));
    assert_eq!(ask("category=No+such+thing").await, []);
    let images = ask("group_by=item&k=36").await;
    assert_eq!(images.len(), 36, "one result per picture");
}

#[tokio::test]
async fn the_categories_are_listed_with_their_sizes() {
    let shop = Shop::open();
    let listed = call(&ready_app(&shop), get("/v1/categories")).await.json();
    let expected = json!({ "categories": [{ "name": "Odd ones", "items": 18 }, { "name": "Round & even", "items": 18 }] });
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn wrong_input_is_named() {
    let shop = Shop::open();
    let app = ready_app(&shop);
    let text = b"This is a shopping list, not a picture.\n".repeat(20);
    let jpeg = pictures::jpeg(1, 0);
    let cut_off = &jpeg[..jpeg.len() / 2];
    let large = image_file(1200, 1000);
    let file = |bytes: &[u8]| Form::new().file("image", "a.jpg", bytes).search();
    let raw = |content_type: &str, body: Vec<u8>| post("/v1/search", content_type, body);
    let cases = [
        (file(&text), 415, "not_an_image", "not an image"),
        (raw("image/jpeg", text.clone()), 415, "not_an_image", "not an image"),
        (file(cut_off), 422, "truncated_image", "cut off"),
        (file(&large), 413, "image_too_large", "1200x1000"),
        (file(&vec![0; 300 << 10]), 413, "body_too_large", "262144"),
        (raw("image/jpeg", vec![0; 300 << 10]), 413, "body_too_large", "262144"),
        (Form::new().text("k", "3").search(), 400, "missing_field", "`image`"),
        (Form::new().file("image", "a.jpg", b"").search(), 400, "missing_field", "`image`"),
        (raw("image/jpeg", Vec::new()), 400, "missing_field", "`image`"),
        (picture(1).text("k", "0").search(), 400, "invalid_parameter", "k=\"0\""),
        (picture(1).text("k", "51").search(), 400, "invalid_parameter", "1 to 50"),
        (picture(1).text("k", "many").search(), 400, "invalid_parameter", "\"many\""),
        (picture(1).text("colour", "red").search(), 400, "unknown_parameter", "\"colour\""),
        (raw("text/plain", b"hello".to_vec()), 415, "unsupported_content_type", "text/plain"),
        (raw("multipart/form-data", b"hello".to_vec()), 400, "unreadable_body", "boundary"),
        (raw("multipart/form-data; boundary=x", b"hello".to_vec()), 400, "unreadable_body", "multipart"),
        (get("/v1/serach"), 404, "not_found", "/v1/serach"),
        (get("/v1/search"), 405, "method_not_allowed", "GET"),
    ];
    for (request, status, code, named) in cases {
        let what = format!("{} {} expecting {code}", request.method(), request.uri());
        assert_problem(&call(&app, request).await, status, code, named, &what);
    }
    let metrics = call(&app, get("/metrics")).await.text();
    assert_eq!(value(&metrics, "dfml_image_decode_failures_total{reason=\"not_an_image\"}"), 2.0);
    assert_eq!(value(&metrics, "dfml_image_decode_failures_total{reason=\"truncated\"}"), 1.0);
    search(&app, picture(1)).await;
}

/// A PNG file that is small in bytes and large in pixels.
fn image_file(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).expect("into memory");
    bytes.into_inner()
}

fn assert_problem(answer: &Answer, status: u16, code: &str, named: &str, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/problem+json", "{what}");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{what}: {problem}");
    assert_eq!(problem["status"], status, "{what}");
    assert_eq!(problem["type"], format!("urn:dfml:problem:{code}"), "{what}");
    assert_eq!(problem["request_id"], answer.header("x-request-id"), "{what}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(named)), "{what}: {problem}");
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{what}: {problem}");
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let shop = Shop::open();
    let answer = call(&ready_app(&shop), get("/v1/search")).await;
    assert_eq!(answer.header(header::ALLOW), "POST");
}

#[tokio::test]
async fn pictures_cannot_lead_out_of_their_folder() {
    let shop = Shop::open();
    let engine = shop.engine();
    let dim = engine.manifest().embedding_dim;
    let unit: Vec<f32> = (0..dim).map(|index| if index == 0 { 1.0 } else { 0.0 }).collect();
    let evil = [
        "../model/manifest.json",
        "../model/model.onnx",
        "/etc/passwd",
        "gallery.txt",
        "../secret.jpg",
        "gone.jpg",
    ];
    fs_err::write(shop.pictures().join("../secret.jpg"), "not yours").expect("write");
    let stored = shop.index(&engine);
    let item = |path: &str| Item {
        id: format!("evil:{path}"),
        product_id: "evil".to_owned(),
        vector: unit.clone(),
        metadata: json!({ "path": path }).as_object().expect("an object").clone(),
    };
    stored.upsert(evil.map(item).to_vec()).expect("an index stores what it is given");
    drop(stored);
    let app = ready_app(&shop);
    for path in evil {
        let escaped: String = path.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = call(&app, get(&format!("/v1/images/evil:{escaped}"))).await;
        assert_problem(&answer, 404, "no_picture", "evil:", path);
    }
    for id in
        ["..%2F..%2Fetc%2Fpasswd", "../secret.jpg", "%2e%2e/secret.jpg", "disc_final/0_0.JPG", "%00", "a%ff"]
    {
        let answer = call(&app, get(&format!("/v1/images/{id}"))).await;
        assert!(answer.status.is_client_error(), "{id}: {}", answer.status);
        assert!(!answer.text().contains("not yours"), "{id}");
    }
}

#[tokio::test]
async fn probes_tell_loading_ready_and_stopping_apart() {
    let shop = Shop::open();
    let (state, metrics) = server::loading(server::options(&shop));
    let app = app(state.clone());
    let probe = async |path: &str| call(&app, get(path)).await.status.as_u16();
    assert_eq!((probe("/livez").await, probe("/readyz").await), (200, 503));
    let early = call(&app, picture(0).search()).await;
    assert_problem(&early, 503, "not_ready", "loading", "a search while loading");
    assert_eq!(early.header(header::RETRY_AFTER), "1");

    state.install(server::backend(&shop, metrics));
    assert_eq!((probe("/livez").await, probe("/readyz").await), (200, 200));
    search(&app, picture(0)).await;
    let info = call(&app, get("/v1/info")).await.json();
    assert_eq!(info["model"]["name"], "tiny-random");
    assert_eq!(info["provider"]["active"], "cpu");
    assert!(info["provider"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{info}");
    assert_eq!(info["index"]["items"], 36);

    state.start_draining();
    assert_eq!((probe("/livez").await, probe("/readyz").await), (200, 503));
    search(&app, picture(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_searches_at_a_time_do_not_mix_up_their_answers() {
    let shop = Shop::open();
    let app = ready_app(&shop);
    let searches: Vec<_> = (0..60)
        .map(|number| {
            let (app, class) = (app.clone(), number % PRODUCTS);
            tokio::spawn(async move { (class, search(&app, picture(class)).await) })
        })
        .collect();
    for search in searches {
        let (class, found) = search.await.expect("no panic");
        assert_eq!(found.results[0].product_id, class.to_string());
    }
}

/// A search whose body comes as slowly as its sender wants.
fn slow_search() -> (mpsc::Sender<Bytes>, Request<Body>) {
    let (sender, mut chunks) = mpsc::channel::<Bytes>(4);
    let stream =
        stream::poll_fn(move |context| chunks.poll_recv(context).map(|chunk| chunk.map(Ok::<_, Infallible>)));
    (sender, post("/v1/search", "image/jpeg", Body::from_stream(stream)))
}

#[tokio::test]
async fn a_client_that_never_finishes_is_cut_off() {
    let shop = Shop::open();
    let request_timeout = Duration::from_millis(150);
    let app = app(server::ready(&shop, HttpOptions { request_timeout, ..server::options(&shop) }));
    let (body, request) = slow_search();
    let answer = call(&app, request).await;
    drop(body);
    assert_problem(&answer, 503, "deadline_exceeded", "0.15 s", "a body that never comes");
    search(&app, picture(0)).await;
}

#[tokio::test]
async fn request_ids_are_taken_over_if_harmless_and_made_if_not() {
    let shop = Shop::open();
    let app = ready_app(&shop);
    let answered = async |id: &str| {
        let mut request = get("/livez");
        request.headers_mut().insert("x-request-id", id.parse().expect("a header"));
        call(&app, request).await.header("x-request-id").to_owned()
    };
    assert_eq!(answered("order-4711.a:b").await, "order-4711.a:b");
    for harmful in ["", "two words", "a\tb", &"x".repeat(65), "<script>"] {
        let made = answered(harmful).await;
        assert_eq!(made.len(), 36, "{harmful:?} became {made:?}");
    }
}

#[tokio::test]
async fn the_page_is_served_with_a_strict_policy_and_only_once() {
    let shop = Shop::open();
    let app = ready_app(&shop);
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/app.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ] {
        let answer = call(&app, get(path)).await;
        assert_eq!(
            (answer.status, answer.header(header::CONTENT_TYPE)),
            (StatusCode::OK, content_type),
            "{path}"
        );
        let policy = answer.header(header::CONTENT_SECURITY_POLICY);
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
        let mut again = get(path);
        again.headers_mut().insert(header::IF_NONE_MATCH, answer.headers[header::ETAG].clone());
        let again = call(&app, again).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0), "{path}");
    }
}

#[tokio::test]
async fn a_stopping_server_finishes_what_it_has_begun() {
    let shop = Shop::open();
    let running = Running::start(server::ready(&shop, server::options(&shop)));
    let (address, picture) = (running.address, pictures::jpeg(5, 0));
    let mut client = TcpStream::connect(address).await.expect("the server listens");
    let head = format!(
        "POST /v1/search?k=1 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        picture.len()
    );
    client.write_all(head.as_bytes()).await.expect("write");
    client.write_all(&picture[..100]).await.expect("write");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stopping = tokio::task::spawn_blocking(move || running.stop());
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.write_all(&picture[100..]).await.expect("write");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("read to the end");
    stopping.await.expect("the server ends");
    assert!(TcpStream::connect(address).await.is_err(), "a stopped server takes no connections");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    assert_eq!(body["results"][0]["product_id"], "5");
}
