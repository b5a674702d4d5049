//! The description of the API.

use axum::http::StatusCode;
use dfml_serve::http::app;
use dfml_tests::{
    binaries::workspace,
    form::{call, get},
    server,
    shop::Shop,
};
use serde_json::Value;

/// Set to write docs/openapi.json anew: `UPDATE_OPENAPI=1 cargo nextest run -p dfml-tests -E 'test(committed)'`.
const UPDATE: &str = "UPDATE_OPENAPI";

#[tokio::test]
async fn the_committed_description_is_the_one_that_is_served() {
    let shop = Shop::open();
    let served =
        call(&app(server::ready(&shop, server::options(&shop))), get("/openapi.json")).await.expect(200);
    let path = workspace().join("docs/openapi.json");
    let text = serde_json::to_string_pretty(&served).expect("JSON") + "\n";
    if std::env::var_os(UPDATE).is_some() {
        fs_err::write(&path, &text).expect("write");
    }
    let committed = fs_err::read_to_string(&path).expect("docs/openapi.json");
    assert!(committed == text, "docs/openapi.json is out of date: run this test with {UPDATE}=1");
}

#[tokio::test]
async fn every_operation_is_described_and_tells_its_problems() {
    let shop = Shop::open();
    let app = app(server::ready(&shop, server::options(&shop)));
    let api = call(&app, get("/openapi.json")).await.expect(200);
    assert!(api["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", api["openapi"]);
    let mut operations = 0;
    for (path, item) in api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            operations += 1;
            let what = format!("{method} {path}");
            assert!(
                operation["summary"].as_str().is_some_and(|text| !text.is_empty()),
                "{what} has no summary"
            );
            let problem =
                &operation["responses"]["4XX"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{what}");
            let is_open = ["/livez", "/readyz", "/metrics"].contains(&path.as_str());
            assert_eq!(operation["security"].is_array(), !is_open, "{what}");
        }
    }
    assert!(operations >= 28, "{operations} operations");
    assert_references(&api, &api);
}

/// Every `$ref` leads somewhere.
fn assert_references(api: &Value, part: &Value) {
    match part {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let pointer = reference.strip_prefix('#').expect("a local reference");
                assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            map.values().for_each(|value| assert_references(api, value));
        }
        Value::Array(list) => list.iter().for_each(|value| assert_references(api, value)),
        _ => {}
    }
}

#[tokio::test]
async fn the_description_can_be_read_and_tried_in_a_browser() {
    let shop = Shop::open();
    let app = app(server::ready(&shop, server::options(&shop)));
    let moved = call(&app, get("/docs")).await;
    assert!(moved.status.is_redirection(), "{}", moved.status);
    let page = call(&app, get("/docs/")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("swagger-ui"), "{}", page.text());
    let policy = page.header("content-security-policy");
    assert!(policy.contains("script-src 'self';") && policy.contains("default-src 'none'"), "{policy}");
    let script = call(&app, get("/docs/swagger-initializer.js")).await;
    assert!(script.text().contains("/openapi.json"), "{}", script.text());
    assert_eq!(call(&app, get("/docs/swagger-ui-bundle.js")).await.status, StatusCode::OK);
}
