//! Items and products, in bulk and by many at once.

use std::time::{Duration, Instant};

use axum::{Router, http::Request};
use dfml_serve::http::{HttpOptions, app};
use dfml_tests::{
    form::{call, data_uri, get, json},
    pictures, server,
    shop::{PRODUCTS, Shop},
};
use serde_json::{Value, json};

fn ready(shop: &Shop) -> Router {
    app(server::ready(shop, server::options(shop)))
}

async fn bulk(app: &Router, method: &str, uri: &str, body: Value) -> Vec<(String, u64, String)> {
    let answer = call(app, json(method, uri, &body)).await.expect(200);
    let outcome = |outcome: &Value| {
        let code = outcome["problem"]["code"].as_str().unwrap_or_default().to_owned();
        (
            outcome["id"].as_str().expect("an id").to_owned(),
            outcome["status"].as_u64().expect("a status"),
            code,
        )
    };
    let outcomes: Vec<_> = answer["results"].as_array().expect("results").iter().map(outcome).collect();
    let failed = outcomes.iter().filter(|(_, status, _)| *status != 200).count();
    assert_eq!(answer["failed"], failed);
    outcomes
}

fn told(outcomes: &[(String, u64, String)]) -> Vec<(&str, u64, &str)> {
    outcomes.iter().map(|(id, status, code)| (id.as_str(), *status, code.as_str())).collect()
}

async fn first(app: &Router, class: u64) -> String {
    let found = call(app, json("POST", "/v1/search", &json!({ "image": picture(class, 0), "k": 1 })))
        .await
        .expect(200);
    found["results"][0]["product_id"].as_str().unwrap_or("nothing").to_owned()
}

fn picture(class: u64, view: u64) -> String {
    data_uri("png", &pictures::png(class, view))
}

#[tokio::test]
async fn items_are_stored_found_changed_and_deleted_and_one_bad_picture_costs_only_itself() {
    let shop = Shop::open();
    let app = ready(&shop);
    let items = json!([
        { "id": "new/1", "product_id": "n1", "image": picture(40, 0), "metadata": { "name": "New one", "category": "New" } },
        { "id": "new/2", "product_id": "n2", "image": "aGVsbG8=" },
        { "id": "new/3", "product_id": "n3", "vector": vec![2.0; 32], "metadata": { "tags": ["a", "b"] } },
        { "id": "new/4", "product_id": "n4" },
        { "id": "new/5", "product_id": "n5", "vector": [1.0] },
        { "id": "", "product_id": "n6", "image": picture(41, 0) },
        { "id": "new/7", "product_id": "n7", "image": picture(41, 0), "metadata": { "source": {} } },
    ]);
    let stored = bulk(&app, "PUT", "/v1/items", json!({ "items": items })).await;
    assert_eq!(
        told(&stored),
        [
            ("new/1", 200, ""),
            ("new/2", 415, "not_an_image"),
            ("new/3", 200, ""),
            ("new/4", 422, "invalid_item"),
            ("new/5", 422, "invalid_item"),
            ("", 422, "invalid_item"),
            ("new/7", 422, "invalid_metadata"),
        ]
    );
    assert_eq!(first(&app, 40).await, "n1");
    let item = call(&app, get("/v1/items/new%2F1")).await.expect(200);
    assert_eq!(
        item,
        json!({ "id": "new/1", "product_id": "n1", "metadata": { "name": "New one", "category": "New" } })
    );
    let vector =
        call(&app, get("/v1/items/new%2F3?include_vectors=true")).await.expect(200)["vector"].clone();
    let vector: Vec<f64> = serde_json::from_value(vector).expect("numbers");
    assert!(vector.iter().all(|value| (value - 32f64.sqrt().recip()).abs() < 1e-6), "unit length");

    let patches = json!([
        { "id": "new/1", "metadata": { "category": "Newer", "name": null, "price": 5 } },
        { "id": "nobody", "metadata": {} },
    ]);
    let patched = bulk(&app, "PATCH", "/v1/items", json!({ "items": patches })).await;
    assert_eq!(told(&patched), [("new/1", 200, ""), ("nobody", 404, "item_not_found")]);
    let item = call(&app, get("/v1/items/new%2F1")).await.expect(200);
    assert_eq!(item["metadata"], json!({ "category": "Newer", "price": 5 }));
    let priced = json!({ "image": picture(40, 0), "filter": { "range": { "field": "price", "max": 5 } } });
    let found = call(&app, json("POST", "/v1/search", &priced)).await.expect(200);
    assert_eq!(found["results"].as_array().map(Vec::len), Some(1), "filters see the change at once");

    let deleted = bulk(&app, "DELETE", "/v1/items", json!({ "ids": ["new/1", "nobody"] })).await;
    assert_eq!(told(&deleted), [("new/1", 200, ""), ("nobody", 404, "item_not_found")]);
    assert_ne!(first(&app, 40).await, "n1");
    call(&app, get("/v1/items/new%2F1")).await.expect_problem(404, "item_not_found", "new/1");
}

#[tokio::test]
async fn pages_walk_all_items_and_products_once() {
    let shop = Shop::open();
    let app = ready(&shop);
    for (uri, list, count) in [("/v1/items", "items", 36), ("/v1/products", "products", PRODUCTS as usize)] {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = call(&app, get(&format!("{uri}?limit=7{next}"))).await.expect(200);
            let ids = page[list]
                .as_array()
                .expect("a list")
                .iter()
                .map(|entry| entry["id"].as_str().expect("an id").to_owned());
            seen.extend(ids);
            match page["next"].as_str() {
                Some(after) => next = format!("&after={}", after.replace('#', "%23")),
                None => break,
            }
        }
        assert_eq!(seen.len(), count, "{uri}");
        assert!(seen.is_sorted_by(|a, b| a < b), "in order, each once");
    }
    let row = call(&app, get("/v1/products?limit=1")).await.expect(200)["products"][0].clone();
    assert_eq!((&row["id"], &row["items"], &row["name"]), (&json!("0"), &json!(3), &json!("disc no. 0")));
    for wrong in ["limit=0", "limit=1001", "limit=many", "colour=red"] {
        call(&app, get(&format!("/v1/items?{wrong}"))).await.expect_problem(400, "invalid_parameter", "");
    }
}

#[tokio::test]
async fn a_product_is_replaced_as_a_whole_or_not_at_all() {
    let shop = Shop::open();
    let app = ready(&shop);
    let put = async |images: Value| {
        let products =
            json!([{ "id": "lamp", "metadata": { "name": "Lamp", "category": "Light" }, "images": images }]);
        let outcome = bulk(&app, "PUT", "/v1/products", json!({ "products": products })).await;
        (outcome[0].1, outcome[0].2.clone())
    };
    let ids = async || {
        let product = call(&app, get("/v1/products/lamp")).await.expect(200);
        let ids = product["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["id"].as_str().expect("an id").to_owned());
        ids.collect::<Vec<_>>()
    };
    let two = json!([{ "image": picture(50, 0) }, { "id": "lamp-side", "image": picture(50, 1), "metadata": { "view": "side" } }]);
    assert_eq!(put(two.clone()).await, (200, String::new()));
    let stored = ids().await;
    assert_eq!(stored.len(), 2);
    assert!(stored.contains(&"lamp-side".to_owned()), "{stored:?}");
    assert_eq!(put(two).await, (200, String::new()));
    assert_eq!(ids().await, stored, "the same pictures have the same ids");
    let side = call(&app, get("/v1/items/lamp-side")).await.expect(200);
    assert_eq!(side["metadata"], json!({ "name": "Lamp", "category": "Light", "view": "side" }));

    let broken = put(json!([{ "image": picture(51, 0) }, { "image": "aGVsbG8=" }])).await;
    assert_eq!(broken, (415, "not_an_image".to_owned()));
    assert_eq!(ids().await, stored, "nothing has changed");
    assert_eq!(put(json!([{ "image": picture(52, 0) }])).await, (200, String::new()));
    assert_eq!(ids().await.len(), 1, "what is not given again is gone");
    assert_eq!(first(&app, 52).await, "lamp");
    assert_eq!(put(json!([])).await.0, 422);

    let patch = json!({ "products": [{ "id": "lamp", "metadata": { "name": "Lantern" } }, { "id": "nobody", "metadata": {} }] });
    let patched = bulk(&app, "PATCH", "/v1/products", patch).await;
    assert_eq!(told(&patched), [("lamp", 200, ""), ("nobody", 404, "product_not_found")]);
    let product = call(&app, get("/v1/products/lamp")).await.expect(200);
    assert_eq!(product["items"][0]["metadata"]["name"], "Lantern");
    let deleted = bulk(&app, "DELETE", "/v1/products", json!({ "ids": ["lamp", "0", "nobody"] })).await;
    assert_eq!(told(&deleted), [("lamp", 200, ""), ("0", 200, ""), ("nobody", 404, "product_not_found")]);
    assert_eq!(call(&app, get("/v1/info")).await.expect(200)["index"]["items"], 33);
    call(&app, get("/v1/products/lamp")).await.expect_problem(404, "product_not_found", "lamp");
}

async fn of_product(app: &Router, id: &str) -> Vec<String> {
    let answer = call(app, get(&format!("/v1/products/{id}"))).await;
    if answer.status == 404 {
        return Vec::new();
    }
    let product = answer.expect(200);
    let items = product["items"].as_array().expect("items").iter();
    items.map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_done_to_a_product_at_the_same_moment_is_done_one_after_the_other() {
    let shop = Shop::open();
    let app = ready(&shop);
    let send = |method: &'static str, uri: &'static str, body: Value| {
        let app = app.clone();
        tokio::spawn(async move { bulk(&app, method, uri, body).await })
    };
    let product = |images: &[&str]| {
        let picture = |id: &&str| json!({ "id": id, "vector": vec![1; 32] });
        let images: Vec<Value> = images.iter().map(picture).collect();
        json!({ "products": [{ "id": "from", "images": images }] })
    };
    let moved = json!({ "items": [{ "id": "wanderer", "product_id": "to", "vector": vec![1; 32] }] });
    for round in 0..40 {
        bulk(&app, "PUT", "/v1/products", product(&["stays", "wanderer"])).await;
        let replaced = send("PUT", "/v1/products", product(&["first"]));
        let other = match round % 2 {
            0 => send("PUT", "/v1/products", product(&["second"])),
            _ => send("DELETE", "/v1/products", json!({ "ids": ["from"] })),
        };
        let stored = send("PUT", "/v1/items", moved.clone());
        for sent in [replaced, other, stored] {
            let outcomes = sent.await.expect("no panic");
            assert!(outcomes.iter().all(|(_, status, _)| *status == 200), "round {round}: {outcomes:?}");
        }
        // Whichever came first: it was moved out of the product, or stored again after it was deleted with it.
        assert_eq!(of_product(&app, "to").await, ["wanderer"], "round {round}");
        let left = of_product(&app, "from").await;
        let left: Vec<&str> = left.iter().map(String::as_str).collect();
        match round % 2 {
            0 => assert!(matches!(left[..], ["first"] | ["second"]), "round {round}: {left:?}"),
            _ => assert!(matches!(left[..], ["first"] | []), "round {round}: {left:?}"),
        }
    }
}

#[tokio::test]
async fn metadata_does_not_grow_beyond_its_limit_by_patching() {
    let shop = Shop::open();
    let app = ready(&shop);
    let text = |kib: usize| "x".repeat(kib << 10);
    let images = json!([
        { "id": "full", "vector": vec![1; 32], "metadata": { "a": text(60) } },
        { "id": "empty", "vector": vec![1; 32] },
    ]);
    bulk(&app, "PUT", "/v1/products", json!({ "products": [{ "id": "p", "images": images }] })).await;
    let mut expected = call(&app, get("/v1/products/p")).await.expect(200);

    let patches =
        json!([{ "id": "full", "metadata": { "b": text(10) } }, { "id": "full", "metadata": { "c": 1 } }]);
    let answer = call(&app, json("PATCH", "/v1/items", &json!({ "items": patches }))).await.expect(200);
    let problem = &answer["results"][0]["problem"];
    assert_eq!((&problem["status"], &problem["code"]), (&json!(422), &json!("invalid_metadata")));
    let detail = problem["detail"].as_str().expect("a sentence");
    assert!(["\"full\"", "71695", "65536"].iter().all(|part| detail.contains(part)), "{detail}");
    assert_eq!((&answer["failed"], &answer["results"][1]["status"]), (&json!(1), &json!(200)));
    expected["items"][0]["metadata"]["c"] = json!(1);
    assert!(call(&app, get("/v1/products/p")).await.expect(200) == expected, "only the other change is made");

    let patches =
        json!([{ "id": "p", "metadata": { "b": text(10) } }, { "id": "p", "metadata": { "d": 2 } }]);
    let patched = bulk(&app, "PATCH", "/v1/products", json!({ "products": patches })).await;
    assert_eq!(told(&patched), [("p", 422, "invalid_metadata"), ("p", 200, "")]);
    expected["items"][0]["metadata"]["d"] = json!(2);
    expected["items"][1]["metadata"]["d"] = json!(2);
    assert!(call(&app, get("/v1/products/p")).await.expect(200) == expected, "all of its pictures or none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn categories_are_answered_while_the_catalogue_changes_and_are_right_in_the_end() {
    let shop = Shop::open();
    let app = ready(&shop);
    let ask = |_| {
        let app = app.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                call(&app, get("/v1/categories")).await.expect(200);
            }
        })
    };
    let asking: Vec<_> = (0..32).map(ask).collect();
    for number in 0..30 {
        let metadata = json!({ "category": "New" });
        let item = json!({ "id": format!("new {number}"), "product_id": "new", "vector": vec![1; 32], "metadata": metadata });
        let stored = bulk(&app, "PUT", "/v1/items", json!({ "items": [item] })).await;
        assert_eq!(stored[0].1, 200, "{stored:?}");
    }
    for asked in asking {
        asked.await.expect("every answer is 200");
    }
    let expected = json!([{ "name": "New", "items": 30 }, { "name": "Odd ones", "items": 18 }, { "name": "Round & even", "items": 18 }]);
    let start = Instant::now();
    loop {
        let found = call(&app, get("/v1/categories")).await.expect(200);
        if found["categories"] == expected {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{found}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn uploads_are_kept_and_shown_where_the_operator_wants_that() {
    let shop = Shop::open();
    let options = HttpOptions { keep_uploads: true, ..server::options(&shop) };
    let app = app(server::ready(&shop, options));
    let items = json!([{ "id": "up", "product_id": "up", "image": picture(60, 0) }]);
    bulk(&app, "PUT", "/v1/items", json!({ "items": items })).await;
    let item = call(&app, get("/v1/items/up")).await.expect(200);
    let shown = call(&app, get(item["image_url"].as_str().expect("it is shown"))).await;
    assert_eq!((shown.status.as_u16(), shown.body), (200, pictures::png(60, 0)));
}

#[tokio::test]
async fn writing_needs_json_and_a_bound_number_of_parts() {
    let shop = Shop::open();
    let app = ready(&shop);
    let mut form = json("PUT", "/v1/items", &json!({ "items": [] }));
    form.headers_mut().insert("content-type", "text/plain".parse().expect("a header"));
    call(&app, form).await.expect_problem(415, "unsupported_content_type", "application/json");
    let none = call(&app, json("PUT", "/v1/items", &json!({ "items": [] }))).await;
    none.expect_problem(422, "batch_size", "0 items");
    let many = vec![json!({ "id": "a", "product_id": "a", "vector": [1] }); 21];
    call(&app, json("PUT", "/v1/items", &json!({ "items": many }))).await.expect_problem(
        422,
        "batch_size",
        "21 items",
    );
    let huge = "x".repeat(2 << 20);
    let large = json!({ "items": [{ "id": "a", "product_id": "a", "image": huge }] });
    call(&app, json("PUT", "/v1/items", &large)).await.expect_problem(413, "body_too_large", "1048576");
    let metadata = json!({ "note": "x".repeat(70_000) });
    let items = json!([{ "id": "a", "product_id": "a", "vector": vec![1; 32], "metadata": metadata }]);
    let stored = bulk(&app, "PUT", "/v1/items", json!({ "items": items })).await;
    assert_eq!(told(&stored), [("a", 422, "invalid_metadata")]);
    let broken = Request::put("/v1/items").header("content-type", "application/json").body("{".into());
    call(&app, broken.expect("a request")).await.expect_problem(400, "invalid_json", "line 1");
}
