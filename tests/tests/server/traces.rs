//! Traces, as a collector receives them from the program.

use std::{
    fs::File,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use dfml_tests::{client, pictures, shop::Shop};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span, span::SpanKind, status::StatusCode},
};
use tonic::transport::server::TcpIncoming;

use super::program::{Server, serve, wait_until_ready};

/// A trace that a client has begun, and the span of the client's own.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ResourceSpans>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.lock().expect("no panic").extend(request.into_inner().resource_spans);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let service = TraceServiceServer::new(self.clone());
        let serving = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
        address
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.0.lock().expect("no panic");
        let scopes = received.iter().flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Waits for a span of this name, and for half a second more.
    async fn wait_for(&self, name: &str) -> Vec<Span> {
        let start = Instant::now();
        while !self.spans().iter().any(|span| span.name == name) {
            assert!(start.elapsed() < Duration::from_secs(20), "no span {name}: {:?}", self.spans());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.spans()
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_part_of_its_clients_trace_with_a_span_for_each_stage() {
    let (shop, collector) = (Shop::open(), Collector::default());
    let (folder, store) = (tempfile::tempdir().expect("temporary folder"), shop.store());
    let log = folder.path().join("log");
    let address = collector.start().await;
    let mut command = serve(&shop, &store);
    command
        .env("DFML_TRACES__ENDPOINT", format!("http://{address}"))
        .env("DFML_TRACES__SERVICE_NAME", "shop-search")
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("DFML_LOG_FORMAT", "json")
        .stderr(File::create(&log).expect("a file"));
    let server = Server::run(&mut command);
    wait_until_ready(&server).await;
    let search = |traceparent: String, body: Vec<u8>| {
        let request = client::client().post(format!("{}/v1/search", server.address));
        request.header("traceparent", traceparent).header("content-type", "image/png").body(body).send()
    };
    // Not sampled by its client: not by the server either.
    let other = TRACE.replace('4', "5");
    let answer = search(format!("00-{other}-{PARENT}-00"), pictures::png(1, 1)).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let answer = search(format!("00-{TRACE}-{PARENT}-01"), pictures::png(1, 2)).await.expect("an answer");
    assert_eq!(answer.status(), 200);

    let spans = collector.wait_for("POST /v1/search").await;
    let ours: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    assert!(!spans.iter().any(|span| hex(&span.trace_id) == other), "{spans:?}");
    let request = ours.iter().find(|span| span.name == "POST /v1/search").expect("waited for");
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!(request.kind, SpanKind::Server as i32);
    for (key, value) in
        [("http.request.method", "POST"), ("http.route", "/v1/search"), ("http.response.status_code", "200")]
    {
        assert_eq!(text(&request.attributes, key).as_deref(), Some(value), "{request:?}");
    }
    for stage in ["read", "decode", "inference", "search"] {
        let span = ours.iter().find(|span| span.name == stage).unwrap_or_else(|| panic!("{stage}: {ours:?}"));
        assert_eq!(span.parent_span_id, request.span_id, "{stage}");
        assert!(span.start_time_unix_nano >= request.start_time_unix_nano, "{stage}");
        assert!(span.end_time_unix_nano <= request.end_time_unix_nano, "{stage}");
        assert!(span.end_time_unix_nano > span.start_time_unix_nano, "{stage}");
    }
    let service = collector
        .0
        .lock()
        .expect("no panic")
        .iter()
        .find_map(|spans| text(&spans.resource.as_ref()?.attributes, "service.name"));
    assert_eq!(service.as_deref(), Some("shop-search"));
    // The log's line about it names the trace.
    let log = std::fs::read_to_string(&log).expect("a log");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let named: Vec<_> = lines.filter(|line| line["span"]["trace_id"] == TRACE).collect();
    assert!(
        named.iter().any(|line| line["message"] == "answered" && line["span"]["route"] == "/v1/search"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_client_that_traces_a_request_begins_a_trace_and_failures_are_marked() {
    let (shop, collector) = (Shop::open(), Collector::default());
    let store = shop.store();
    let address = collector.start().await;
    let mut command = serve(&shop, &store);
    command
        .env("DFML_TRACES__ENDPOINT", format!("http://{address}"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .stderr(std::process::Stdio::null());
    let server = Server::run(&mut command);
    // Before it is ready: 503. Later a client's own mistake, which is no error of the server.
    let early = client::fetch(format!("{}/readyz", server.address)).await.expect("an answer").status();
    wait_until_ready(&server).await;
    let missing = client::fetch(format!("{}/v1/items/nothing", server.address)).await.expect("an answer");
    assert_eq!(missing.status(), 404);
    let spans = collector.wait_for("GET /v1/items/{id}").await;
    let named = |name: &str| spans.iter().filter(move |span| span.name == name).collect::<Vec<_>>();
    let missing = named("GET /v1/items/{id}");
    assert!(missing[0].parent_span_id.is_empty() && missing[0].trace_id.iter().any(|&byte| byte != 0));
    let code = |span: &Span| span.status.as_ref().map_or(0, |status| status.code);
    assert_eq!(code(missing[0]), StatusCode::Unset as i32);
    if early == 503 {
        assert_eq!(code(named("GET /readyz")[0]), StatusCode::Error as i32);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_holds_nothing_up() {
    let shop = Shop::open();
    let store = shop.store();
    let mut command = serve(&shop, &store);
    // Port 9 of this machine: nobody listens there.
    command.env("DFML_TRACES__ENDPOINT", "http://127.0.0.1:9").stderr(std::process::Stdio::null());
    let server = Server::run(&mut command);
    wait_until_ready(&server).await;
    let start = Instant::now();
    for _ in 0..20 {
        let request = client::client().post(format!("{}/v1/search", server.address));
        let request = request.header("content-type", "image/png").body(pictures::png(1, 1));
        assert_eq!(request.send().await.expect("an answer").status(), 200);
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}
