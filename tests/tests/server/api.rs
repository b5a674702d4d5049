//! All forms of a search, and embeddings.

use axum::Router;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use dfml_models::calibration::{Calibration, CalibrationMethod, Knot};
use dfml_serve::http::app;
use dfml_tests::{
    form::{Form, call, data_uri, get, json},
    pictures, server,
    shop::{PRODUCTS, Shop},
};
use image::{ImageFormat, RgbImage, imageops};
use serde_json::{Value, json};

fn ready(shop: &Shop) -> Router {
    app(server::ready(shop, server::options(shop)))
}

async fn search(app: &Router, body: Value) -> Vec<Value> {
    let answer = call(app, json("POST", "/v1/search", &body)).await.expect(200);
    answer["results"].as_array().expect("results").clone()
}

fn products(results: &[Value]) -> Vec<&str> {
    results.iter().map(|result| result["product_id"].as_str().expect("an id")).collect()
}

fn item(class: u64, view: u64) -> String {
    let shape = pictures::SHAPES[(class % 6) as usize];
    format!("{shape}_final/{class}_{view}.JPG#{}", class * 3 + view)
}

#[tokio::test]
async fn the_same_picture_in_every_form_gives_the_same_answer() {
    let shop = Shop::open();
    let app = ready(&shop);
    let jpeg = pictures::jpeg(4, 0);
    let form =
        call(&app, Form::new().file("image", "a.jpg", &jpeg).text("k", "5").search()).await.expect(200);
    let expected = form["results"].as_array().expect("results").clone();
    assert_eq!(products(&expected)[0], "4");
    let bare = BASE64_STANDARD.encode(&jpeg);
    for image in [data_uri("jpeg", &jpeg), bare.clone(), bare.trim_end_matches('=').to_owned()] {
        assert_eq!(search(&app, json!({ "image": image, "k": 5 })).await, expected);
    }
    // A stored picture and its embedding are the same example as the file.
    let stored = call(
        &app,
        get(&format!(
            "/v1/items/{}?include_vectors=true",
            item(4, 0).replace('/', "%2F").replace('#', "%23")
        )),
    );
    let vector = stored.await.expect(200)["vector"].clone();
    assert_eq!(vector.as_array().map(Vec::len), Some(32));
    for body in [
        json!({ "item_id": item(4, 0), "k": 5 }),
        json!({ "vector": vector, "k": 5 }),
        json!({ "positive": [{ "item_id": item(4, 0) }], "k": 5 }),
        json!({ "positive": [{ "image": bare }], "k": 5 }),
    ] {
        assert_eq!(products(&search(&app, body.clone()).await), products(&expected), "{body}");
    }
}

#[tokio::test]
async fn a_crop_box_looks_at_its_part_of_the_picture_only() {
    let shop = Shop::open();
    let app = ready(&shop);
    // Two products in one picture: the left half shows 2, the right half 7.
    let (left, right) = (pictures::view(2, 0), pictures::view(7, 0));
    let mut both = RgbImage::new(left.width() * 2, left.height());
    imageops::replace(&mut both, &left, 0, 0);
    imageops::replace(&mut both, &right, i64::from(left.width()), 0);
    let mut png = std::io::Cursor::new(Vec::new());
    both.write_to(&mut png, ImageFormat::Png).expect("into memory");
    let png = png.into_inner();
    for (crop, product) in [("0,0,0.5,1", "2"), ("0.5,0,0.5,1", "7")] {
        let form = Form::new().file("image", "a.png", &png).text("crop", crop).text("k", "1").search();
        let found = call(&app, form).await.expect(200);
        assert_eq!(found["results"][0]["product_id"], product, "{crop}");
        assert_eq!(found["query"], json!({ "width": 224, "height": 96 }), "the whole picture's size");
    }
    let crop = json!({ "left": 0.5, "top": 0, "width": 0.5, "height": 1 });
    let found = search(&app, json!({ "image": data_uri("png", &png), "crop": crop })).await;
    assert_eq!(products(&found)[0], "7");
    let refused =
        call(&app, json("POST", "/v1/search", &json!({ "item_id": item(1, 0), "crop": crop }))).await;
    refused.expect_problem(422, "crop_without_image", "crop");
}

#[tokio::test]
async fn filters_thresholds_grouping_and_vectors() {
    let shop = Shop::open();
    let app = ready(&shop);
    let wide = json!({ "range": { "field": "width_cm", "min": 15, "max": 17 } });
    let found = search(&app, json!({ "item_id": item(0, 0), "filter": wide, "k": 12 })).await;
    let mut shown = products(&found);
    shown.sort_unstable();
    assert_eq!(shown, ["5", "6", "7"], "width is 10 + class");
    let not = json!({ "and": [{ "not": { "products": ["5"] } }, wide] });
    assert_eq!(
        search(&app, json!({ "item_id": item(0, 0), "filter": not, "category": "Odd ones" })).await.len(),
        1
    );
    let all = search(&app, json!({ "item_id": item(0, 0), "group_by": "item", "k": 36 })).await;
    assert_eq!(all.len(), 36);
    let third = all[2]["score"].as_f64().expect("a score");
    let near = search(
        &app,
        json!({ "item_id": item(0, 0), "group_by": "item", "k": 36, "threshold": third - 1e-6 }),
    )
    .await;
    assert_eq!(near, all[..3]);
    let with = search(&app, json!({ "item_id": item(0, 0), "k": 1, "include_vectors": true })).await;
    let vector: Vec<f64> = serde_json::from_value(with[0]["vector"].clone()).expect("numbers");
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    assert!((length - 1.0).abs() < 1e-5, "unit length, but {length}");
    assert!(all[0].get("vector").is_none(), "only if asked for");
}

#[tokio::test]
async fn examples_and_counter_examples() {
    let shop = Shop::open();
    let app = ready(&shop);
    let plain = search(&app, json!({ "product_id": "3", "k": 12 })).await;
    assert_eq!(products(&plain)[0], "3", "a product is most like itself");
    let without = search(&app, json!({ "product_id": "3", "k": 12, "exclude_examples": true })).await;
    assert_eq!(products(&without), products(&plain)[1..].to_vec());
    let disliked = products(&without)[0].to_owned();
    let away =
        search(&app, json!({ "product_id": "3", "negative": [{ "product_id": disliked }], "k": 12, "exclude_examples": true })).await;
    assert!(!products(&away).contains(&disliked.as_str()), "{away:?}");
    // Further from the counter-example than without it.
    let rank = |results: &[Value]| products(results).iter().position(|product| *product == disliked);
    let kept =
        search(&app, json!({ "product_id": "3", "negative": [{ "product_id": disliked }], "k": 12 })).await;
    assert!(rank(&kept) > rank(&plain), "{:?} after {:?}", rank(&kept), rank(&plain));
    for (body, status, code) in [
        (json!({ "item_id": "nobody" }), 404, "item_not_found"),
        (json!({ "positive": [{ "product_id": "nobody" }] }), 404, "product_not_found"),
        (json!({ "negative": [{ "product_id": "3" }] }), 400, "missing_field"),
        (json!({ "vector": [1.0, 2.0] }), 422, "invalid_search"),
        (json!({ "vector": vec![0.0; 32] }), 422, "invalid_search"),
        (json!({ "image": "data:image/png,notbase64" }), 422, "not_base64"),
        (json!({ "image": "%%%" }), 422, "not_base64"),
        (json!({ "image": "aGVsbG8=" }), 415, "not_an_image"),
        (json!({ "image": "http://169.254.169.254/latest" }), 403, "switched_off"),
        (json!({ "product_id": "3", "min_probability": 0.5 }), 422, "not_calibrated"),
        (json!({ "product_id": "3", "colour": "red" }), 422, "invalid_body"),
        (json!({ "product_id": 3 }), 422, "invalid_body"),
        (json!({ "product_id": "3", "filter": { "near": 1 } }), 422, "invalid_body"),
    ] {
        let answer = call(&app, json("POST", "/v1/search", &body)).await;
        answer.expect_problem(status, code, "");
    }
}

#[tokio::test]
async fn a_batch_answers_each_search_by_itself() {
    let shop = Shop::open();
    let app = ready(&shop);
    let searches = json!([{ "product_id": "1", "k": 2 }, { "item_id": "nobody" }, { "image": data_uri("png", &pictures::png(5, 0)) }]);
    let answer =
        call(&app, json("POST", "/v1/search/batch", &json!({ "searches": searches }))).await.expect(200);
    let results = answer["results"].as_array().expect("results");
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(200), Some(404), Some(200)]);
    assert_eq!(results[0]["response"]["results"][0]["product_id"], "1");
    assert_eq!(results[1]["problem"]["code"], "item_not_found");
    assert_eq!(results[2]["response"]["results"][0]["product_id"], "5");
    let many = vec![json!({ "product_id": "1" }); 21];
    let refused = call(&app, json("POST", "/v1/search/batch", &json!({ "searches": many }))).await;
    refused.expect_problem(422, "batch_size", "from 1 to 20");
}

#[tokio::test]
async fn a_calibrated_model_tells_probabilities_and_takes_them_as_threshold() {
    let shop = Shop::open();
    let state = server::loading(server::options(&shop));
    let mut backend = server::backend(&shop, state.1);
    let knots = [(0.0, 0.0), (0.5, 0.2), (1.0, 1.0)]
        .map(|(similarity, probability)| Knot { similarity, probability });
    backend.manifest.calibration = Some(Calibration {
        method: CalibrationMethod::Isotonic,
        dataset: "made up".to_owned(),
        fitted_hits: 10,
        judged_hits: 10,
        expected_calibration_error: 0.01,
        knots: knots.to_vec(),
    });
    state.0.install(backend);
    let app = app(state.0);
    let found = search(&app, json!({ "item_id": item(2, 0), "group_by": "item", "k": 36 })).await;
    for result in &found {
        let (score, told) =
            (result["score"].as_f64().expect("a score"), result["match_probability"].as_f64());
        let expected = if score < 0.5 { (0.4 * score).max(0.0) } else { 0.2 + 1.6 * (score.min(1.0) - 0.5) };
        assert!(told.is_some_and(|told| (told - expected).abs() < 1e-5), "{result}");
    }
    let sure =
        search(&app, json!({ "item_id": item(2, 0), "group_by": "item", "k": 36, "min_probability": 0.6 }))
            .await;
    let expected = found.iter().filter(|result| result["score"].as_f64() >= Some(0.75)).count();
    assert_eq!(sure.len(), expected, "0.6 is a similarity of 0.75");
    assert!(expected > 0 && expected < 36);
    let several = json!({ "product_id": "2", "negative": [{ "product_id": "3" }], "min_probability": 0.6 });
    call(&app, json("POST", "/v1/search", &several)).await.expect_problem(
        422,
        "several_examples",
        "one example",
    );
    let combined = search(&app, json!({ "product_id": "2", "negative": [{ "product_id": "3" }] })).await;
    assert!(combined[0]["match_probability"].is_null(), "a mixture of examples has no product");
}

#[tokio::test]
async fn embeddings_in_every_form_that_clients_send() {
    let shop = Shop::open();
    let app = ready(&shop);
    let uri = data_uri("png", &pictures::png(3, 0));
    let embed = async |body: Value| call(&app, json("POST", "/v1/embeddings", &body)).await.expect(200);
    let plain = embed(json!({ "input": uri })).await;
    assert_eq!((&plain["object"], &plain["model"]), (&json!("list"), &json!("tiny-random")));
    assert_eq!(plain["data"][0]["object"], "embedding");
    let expected = plain["data"][0]["embedding"].clone();
    let part = json!({ "type": "image_url", "image_url": { "url": uri } });
    for body in [
        json!({ "model": "tiny-random", "input": [uri], "modality": "image", "dimensions": 32 }),
        json!({ "input": [{ "image": uri }] }),
        json!({ "input": [part] }),
        json!({ "messages": [{ "role": "user", "content": [part] }] }),
    ] {
        assert_eq!(embed(body.clone()).await["data"][0]["embedding"], expected, "{body}");
    }
    let encoded =
        embed(json!({ "input": [uri, data_uri("png", &pictures::png(4, 0))], "encoding_format": "base64" }))
            .await;
    assert_eq!(encoded["data"].as_array().map(Vec::len), Some(2));
    let bytes =
        BASE64_STANDARD.decode(encoded["data"][0]["embedding"].as_str().expect("text")).expect("base64");
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().expect("4 bytes"))).collect();
    let expected: Vec<f32> = serde_json::from_value(expected).expect("numbers");
    assert_eq!(values, expected);
    for (body, status, code) in [
        (json!({ "model": "clip", "input": uri }), 404, "model_not_found"),
        (json!({ "input": uri, "dimensions": 8 }), 400, "invalid_parameter"),
        (json!({ "input": [] }), 422, "batch_size"),
        (json!({}), 400, "missing_field"),
        (json!({ "input": "aGVsbG8=" }), 415, "not_an_image"),
        (json!({ "input": uri, "modality": "audio" }), 422, "invalid_body"),
    ] {
        call(&app, json("POST", "/v1/embeddings", &body)).await.expect_problem(status, code, "");
    }
    let second = json!({ "input": [uri, "aGVsbG8="] });
    call(&app, json("POST", "/v1/embeddings", &second)).await.expect_problem(
        415,
        "not_an_image",
        "picture 1: ",
    );
}

#[tokio::test]
async fn the_status_says_what_is_wrong() {
    let shop = Shop::open();
    let (state, metrics) = server::loading(server::options(&shop));
    let app = app(state.clone());
    assert_eq!(call(&app, get("/v1/stats")).await.expect(200)["status"], "loading");
    state.install(server::backend(&shop, metrics));
    for class in 0..PRODUCTS {
        search(&app, json!({ "product_id": class.to_string() })).await;
    }
    let stats = call(&app, get("/v1/stats")).await.expect(200);
    assert_eq!((&stats["status"], &stats["problems"]), (&json!("ok"), &json!([])), "{stats}");
    assert_eq!(stats["search_ms"]["count"], PRODUCTS);
    assert!(stats["search_ms"]["p50"].as_f64() <= stats["search_ms"]["p99"].as_f64(), "{stats}");
    assert_eq!((&stats["index"]["items"], &stats["index"]["recall"]), (&json!(36), &json!(1.0)));
    assert_eq!(stats["model"]["provider_active"], "cpu");
}
