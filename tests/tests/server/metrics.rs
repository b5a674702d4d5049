//! `/metrics` through the router: what moves with a search, and whether a scraper could read it.

use std::collections::HashSet;

use axum::{
    Router,
    http::{StatusCode, header},
};
use dfml_serve::http::app;
use dfml_tests::{
    form::{Form, call, get},
    metrics::value,
    pictures, server,
    shop::Shop,
};

async fn search(app: &Router, class: u64) {
    let form = Form::new().file("image", "query.jpg", &pictures::jpeg(class, 0));
    assert_eq!(call(app, form.search()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_parse_and_move() {
    let shop = Shop::open();
    let app = app(server::ready(&shop, server::options(&shop)));
    search(&app, 0).await;
    let before = call(&app, get("/metrics")).await;
    assert!(before.header(header::CONTENT_TYPE).starts_with("text/plain; version=0.0.4"));
    for _ in 0..3 {
        search(&app, 2).await;
    }
    call(&app, get("/no/such/route")).await;
    let (before, after) = (before.text(), call(&app, get("/metrics")).await.text());
    assert_well_formed(&after);
    let grew = |series: &str| value(&after, series) - value(&before, series);
    assert_eq!(grew("dfml_http_requests_total{method=\"POST\",route=\"/v1/search\",status=\"200\"}"), 3.0);
    assert_eq!(grew("dfml_http_request_duration_seconds_count{route=\"/v1/search\"}"), 3.0);
    assert_eq!(
        value(&after, "dfml_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"}"),
        1.0
    );
    for stage in ["read", "decode", "preprocess", "queue", "inference", "search", "respond"] {
        let series = format!("dfml_stage_duration_seconds_count{{stage=\"{stage}\"}}");
        assert_eq!(grew(&series), 3.0, "{stage}");
    }
    assert_eq!(grew("dfml_batch_size_count"), 3.0);
    assert_eq!(value(&after, "dfml_index_items"), 36.0);
    assert_eq!(value(&after, "dfml_http_requests_in_flight"), 1.0, "the scrape itself");
    for prefix in ["dfml_execution_provider_info{active=\"cpu\"", "dfml_model_info{", "dfml_build_info{"] {
        assert!(after.lines().any(|line| line.starts_with(prefix) && line.ends_with(" 1")), "{prefix}");
    }
}

/// What a scraper insists on, and what promtool would complain of.
fn assert_well_formed(text: &str) {
    let mut described = HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("name and type");
            assert!(described.insert(name.to_owned()), "{name} is described twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("series and value");
            value.parse::<f64>().expect("a number");
            let name = series.split('{').next().expect("a name");
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            assert!(name.starts_with("dfml_") || name.starts_with("process_"), "{name}");
            assert!(described.contains(name) || described.contains(base), "{name} is not described");
        }
    }
}
