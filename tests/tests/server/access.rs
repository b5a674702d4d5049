//! Keys, scopes, rates, host names, TLS, other origins.

use std::{num::NonZeroU32, path::Path, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, header},
};
use dfml_serve::{
    access::{KeySource, KeyStore, NewKey, Rate},
    http::{HttpOptions, Tls, app},
};
use dfml_tests::{
    client,
    form::{Answer, call, get, json},
    server::{self, Running},
    shop::Shop,
};
use serde_json::json;

/// A server with a key of each scope.
struct Guarded {
    _shop: Shop,
    folder: tempfile::TempDir,
    app: Router,
    read: NewKey,
    write: NewKey,
    admin: NewKey,
}

fn entry(name: &str, scope: &str, key: &NewKey) -> String {
    format!("[[key]]\nname = \"{name}\"\nscope = \"{scope}\"\ndigest = \"{}\"\n", key.digest)
}

fn guarded(change: impl FnOnce(&mut HttpOptions)) -> Guarded {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().expect("temporary folder"));
    let (read, write, admin) = (NewKey::generate(), NewKey::generate(), NewKey::generate());
    let file = folder.path().join("keys.toml");
    let text = entry("reader", "read", &read) + &entry("writer", "write", &write);
    fs_err::write(&file, text).expect("write");
    // One more from the environment.
    let variable = Some(format!("boss:admin:{}", admin.digest));
    let keys = KeyStore::open(KeySource { file: Some(file), variable }).expect("well-formed keys");
    let mut options = HttpOptions { keys, metrics_open: false, ..server::options(&shop) };
    change(&mut options);
    let app = app(server::ready(&shop, options));
    Guarded { _shop: shop, folder, app, read, write, admin }
}

impl Guarded {
    async fn ask(&self, mut request: Request<Body>, secret: Option<&str>) -> Answer {
        if let Some(secret) = secret {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, format!("Bearer {secret}").parse().expect("a header"));
        }
        call(&self.app, request).await
    }
}

#[tokio::test]
async fn a_key_is_needed_has_to_be_valid_and_of_the_right_scope() {
    let guarded = guarded(|_| {});
    let search = || json("POST", "/v1/search", &json!({ "product_id": "1" }));
    let delete = || json("DELETE", "/v1/items", &json!({ "ids": ["nobody"] }));
    let missing = guarded.ask(search(), None).await;
    missing.expect_problem(401, "key_needed", "x-api-key");
    assert_eq!(missing.header(header::WWW_AUTHENTICATE), "Bearer");
    for wrong in ["dfml_0", "", &guarded.read.secret[..20], &guarded.read.digest] {
        guarded.ask(search(), Some(wrong)).await.expect_problem(401, "key_needed", "");
    }
    guarded.ask(search(), Some(&guarded.read.secret)).await.expect(200);
    guarded.ask(delete(), Some(&guarded.read.secret)).await.expect_problem(
        403,
        "scope_missing",
        "needs write",
    );
    guarded.ask(delete(), Some(&guarded.write.secret)).await.expect(200);
    guarded.ask(search(), Some(&guarded.write.secret)).await.expect(200);
    guarded.ask(get("/v1/models"), Some(&guarded.write.secret)).await.expect_problem(
        403,
        "scope_missing",
        "needs admin",
    );
    guarded.ask(get("/v1/models"), Some(&guarded.admin.secret)).await.expect(200);
    let mut request = search();
    request.headers_mut().insert("x-api-key", guarded.read.secret.parse().expect("a header"));
    call(&guarded.app, request).await.expect(200);
    let mut basic = search();
    basic
        .headers_mut()
        .insert(header::AUTHORIZATION, format!("Basic {}", guarded.read.secret).parse().expect("a header"));
    call(&guarded.app, basic).await.expect_problem(401, "key_needed", "");
    // The page, the probes and the description hold no secret; the metrics are as the operator wants them.
    for open in ["/", "/status", "/catalogue", "/page/app.js", "/livez", "/readyz", "/openapi.json", "/docs/"]
    {
        assert_eq!(guarded.ask(get(open), None).await.status, 200, "{open}");
    }
    guarded.ask(get("/metrics"), None).await.expect_problem(401, "key_needed", "");
    assert_eq!(guarded.ask(get("/metrics"), Some(&guarded.read.secret)).await.status, 200);
}

/// Refused before its body is read: a stranger cannot make the server hold megabytes.
#[tokio::test]
async fn every_operation_of_the_description_that_needs_a_key_is_refused_without_one() {
    let guarded = guarded(|_| {});
    let api = guarded.ask(get("/openapi.json"), None).await.expect(200);
    let mut refused = 0;
    for (path, item) in api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if !operation["security"].is_array() {
                continue;
            }
            let uri = path.replace("{id}", "x").replace("{item}", "x");
            let request =
                Request::builder().method(method.to_uppercase().as_str()).uri(&uri).body(Body::empty());
            let answer = guarded.ask(request.expect("a request"), None).await;
            answer.expect_problem(401, "key_needed", "");
            refused += 1;
        }
    }
    assert!(refused >= 25, "{refused}");
}

#[tokio::test]
async fn each_key_has_a_rate_of_its_own() {
    let one = NonZeroU32::MIN;
    let guarded = guarded(|options| {
        options.rate = Some(Rate { per_second: one, burst: NonZeroU32::new(3).expect("not zero") });
    });
    let info = async |key: &NewKey| guarded.ask(get("/v1/info"), Some(&key.secret)).await;
    for _ in 0..3 {
        info(&guarded.read).await.expect(200);
    }
    let refused = info(&guarded.read).await;
    refused.expect_problem(429, "rate_limited", "reader");
    assert_eq!(refused.header(header::RETRY_AFTER), "1");
    info(&guarded.write).await.expect(200);
    assert_eq!(guarded.ask(get("/livez"), None).await.status, 200, "probes are never limited");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    info(&guarded.read).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_without_a_restart() {
    let shop = Shop::open();
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("keys.toml");
    let (old, new) = (NewKey::generate(), NewKey::generate());
    fs_err::write(&file, entry("old", "read", &old)).expect("write");
    let keys = KeyStore::open(KeySource { file: Some(file.clone()), variable: None }).expect("well-formed");
    let running = Running::start(server::ready(&shop, HttpOptions { keys, ..server::options(&shop) }));
    let url = running.url("/v1/info");
    let status = async |key: &NewKey| {
        let http = client::client();
        http.get(&url).bearer_auth(&key.secret).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!((status(&old).await, status(&new).await), (200, 401));
    fs_err::write(&file, entry("new", "read", &new)).expect("write");
    for _ in 0..60 {
        if status(&new).await == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((status(&old).await, status(&new).await), (401, 200));
    // An emptied file locks everybody out rather than letting everybody in.
    fs_err::write(&file, "").expect("write");
    for _ in 0..60 {
        if status(&new).await == 401 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status(&new).await, 401);
    let http = client::client();
    assert_eq!(http.get(&url).send().await.expect("an answer").status(), 401);
}

#[tokio::test]
async fn secrets_are_in_no_answer_and_no_metric() {
    let guarded = guarded(|options| options.metrics_open = true);
    let secret = &guarded.read.secret;
    let answers = [
        guarded.ask(get("/v1/info"), Some(secret)).await.text(),
        guarded.ask(get(&format!("/v1/items/{secret}")), Some("dfml_wrong")).await.text(),
        guarded.ask(get("/metrics"), None).await.text(),
    ];
    for answer in answers {
        assert!(!answer.contains(secret.as_str()) && !answer.contains(&guarded.read.digest[7..]), "{answer}");
    }
    let file = fs_err::read_to_string(guarded.folder.path().join("keys.toml")).expect("the key file");
    assert!(!file.contains(secret.as_str()), "hashed at rest");
}

#[tokio::test]
async fn other_sites_are_kept_out_of_a_server_without_keys() {
    let shop = Shop::open();
    let options = HttpOptions { local_names_only: true, ..server::options(&shop) };
    let app = app(server::ready(&shop, options));
    let ask = async |host: &str| {
        let request =
            Request::get("/v1/info").header(header::HOST, host).body(Body::empty()).expect("a request");
        call(&app, request).await
    };
    ask("127.0.0.1:8080").await.expect(200);
    ask("localhost").await.expect(200);
    ask("evil.example:8080").await.expect_problem(421, "wrong_host", "evil.example");
    // A page of another site need not read the answer to do harm.
    let roll_back = Request::post("/v1/models/rollback")
        .header(header::HOST, "localhost")
        .header(header::ORIGIN, "https://evil.example")
        .body(Body::empty())
        .expect("a request");
    call(&app, roll_back).await.expect_problem(403, "foreign_origin", "evil.example");
}

#[tokio::test]
async fn only_listed_origins_may_read_answers() {
    let shop = Shop::open();
    let preflight = |origin: &str| {
        Request::options("/v1/search")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization")
            .body(Body::empty())
            .expect("a request")
    };
    let allowed = |headers: &HeaderMap| headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).cloned();
    let closed = app(server::ready(&shop, server::options(&shop)));
    assert_eq!(
        allowed(&call(&closed, preflight("https://shop.example")).await.headers),
        None,
        "off by default"
    );
    drop(closed);
    let options =
        HttpOptions { cors_origins: vec!["https://shop.example".to_owned()], ..server::options(&shop) };
    let open = app(server::ready(&shop, options));
    let answer = call(&open, preflight("https://shop.example")).await;
    assert_eq!(allowed(&answer.headers).expect("allowed"), "https://shop.example");
    assert_eq!(allowed(&call(&open, preflight("https://evil.example")).await.headers), None);
}

/// A certificate of its own for localhost, made by openssl, which every system with TLS has.
fn certificate(folder: &Path) -> Tls {
    let tls = Tls { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&tls.key)
        .arg("-out")
        .arg(&tls.certificate)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    tls
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_served_with_a_certificate_and_plain_text_is_not() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().expect("temporary folder"));
    let tls = certificate(folder.path());
    let running = Running::start_with(server::ready(&shop, server::options(&shop)), Some(tls.clone()));
    let port = running.address.port();
    let trusted =
        reqwest::Certificate::from_pem(&fs_err::read(&tls.certificate).expect("readable")).expect("PEM");
    let http = client::builder().tls_certs_only([trusted]).build().expect("a client");
    let answer =
        http.get(format!("https://localhost:{port}/readyz")).send().await.expect("an answer over TLS");
    assert_eq!(answer.status(), 200);
    let stranger = client::builder().tls_certs_only([]).build().expect("a client");
    assert!(
        stranger.get(format!("https://localhost:{port}/readyz")).send().await.is_err(),
        "who does not trust it, leaves"
    );
    assert!(client::fetch(format!("http://localhost:{port}/readyz")).await.is_err(), "no plain text");
}
