//! What a server on the network has to stand: slow, endless, huge and broken requests, clients that leave, a model that is stuck. After each, it
//! is as well as before.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use dfml_serve::{
    engine::{BatchObserver, BatchOptions, Batcher},
    http::{Backend, HttpOptions},
    metrics::Metrics,
};
use dfml_tests::{
    metrics::value,
    pictures,
    server::{self, Running},
    shop::Shop,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends bytes and returns what the server answers until it closes the connection.
async fn raw(running: &Running, request: &[u8]) -> String {
    let mut client = TcpStream::connect(running.address).await.expect("the server listens");
    // The server may have seen enough and closed before everything is sent.
    let _ = client.write_all(request).await;
    let mut answer = Vec::new();
    let _ =
        timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(running: &Running, path: &str) -> String {
    raw(running, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .await
}

fn search_request(close: bool) -> Vec<u8> {
    let picture = pictures::jpeg(5, 0);
    let connection = if close { "close" } else { "keep-alive" };
    let head = format!(
        "POST /v1/search?k=1 HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        picture.len()
    );
    [head.as_bytes(), &picture].concat()
}

async fn assert_well(running: &Running) {
    let answer = raw(running, &search_request(true)).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"product_id\":\"5\""), "{answer}");
}

/// A metric's value right now.
async fn metric(running: &Running, series: &str) -> f64 {
    value(&get(running, "/metrics").await, series)
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_trickle_in_are_cut_off_and_others_are_served_meanwhile() {
    let shop = Shop::open();
    let options = HttpOptions { head_timeout: Duration::from_millis(700), ..server::options(&shop) };
    let running = Running::start(server::ready(&shop, options));
    let start = Instant::now();
    let slow = (0..20).map(|_| {
        let address = running.address;
        tokio::spawn(async move {
            let mut client = TcpStream::connect(address).await.expect("the server listens");
            // A header line now and then: never idle, never done.
            for line in ["GET / HTTP/1.1\r\n", "Host: localhost\r\n"] {
                client.write_all(line.as_bytes()).await.expect("still open");
            }
            for number in 0.. {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if client.write_all(format!("X-{number}: x\r\n").as_bytes()).await.is_err()
                    || start.elapsed() > PATIENCE
                {
                    break;
                }
            }
        })
    });
    let slow: Vec<_> = slow.collect();
    assert_well(&running).await;
    for client in slow {
        client.await.expect("no panic");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "they were cut off after {:?}", start.elapsed());
    assert_well(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_or_too_many_are_refused() {
    let shop = Shop::open();
    let running = Running::start(server::ready(&shop, server::options(&shop)));
    let many: String = (0..500).map(|number| format!("X-{number}: x\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "x".repeat(1 << 20));
    for headers in [many, large] {
        let answer =
            raw(&running, format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes())
                .await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    let long =
        raw(&running, format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(1 << 20)).as_bytes())
            .await;
    assert!(long.starts_with("HTTP/1.1 4"), "{long}");
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
    ] {
        let answer = raw(&running, format!("{garbage}\r\n\r\n").as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{garbage:?}: {answer}");
    }
    assert_well(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_gigabyte_is_refused_before_it_is_held() {
    let shop = Shop::open();
    let running = Running::start(server::ready(&shop, server::options(&shop)));
    let before = metric(&running, "process_resident_memory_bytes").await;
    // Announced: refused at once.
    let announced = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1073741824\r\n\r\n";
    let answer = raw(&running, announced).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
    // In chunks without a size: refused when it has become too much.
    let mut client = TcpStream::connect(running.address).await.expect("the server listens");
    let head = b"PUT /v1/items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head).await.expect("write");
    let chunk = [format!("{:x}\r\n", 1 << 20).as_bytes(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
    let mut sent = 0usize;
    while sent < 1 << 30 && client.write_all(&chunk).await.is_ok() {
        sent += 1 << 20;
    }
    assert!(sent < 64 << 20, "the server took {sent} bytes");
    // Many at a time: the memory for all bodies together is bounded.
    let grown = metric(&running, "process_resident_memory_bytes").await - before;
    assert!(grown < 64e6, "{grown} bytes more");
    assert_well(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_and_places_come_back() {
    let shop = Shop::open();
    let options = HttpOptions { connections_max: 4, ..server::options(&shop) };
    let running = Running::start(server::ready(&shop, options));
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(TcpStream::connect(running.address).await.expect("connect"));
    }
    // The connections are taken up in turn.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(get(&running, "/livez").await, "", "closed at once");
    drop(held);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_well(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_trickle_in_hold_neither_places_nor_memory() {
    let shop = Shop::open();
    let options = HttpOptions { searches_max: 1, bodies_bytes_max: 256 << 10, ..server::options(&shop) };
    let running = Running::start(server::ready(&shop, options));
    let head = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 200000\r\n\r\n";
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut client = TcpStream::connect(running.address).await.expect("the server listens");
        client.write_all(head).await.expect("write");
        client.write_all(b"\xff\xd8\xff\xe0\x00\x10JFIF").await.expect("write");
        slow.push(client);
    }
    while metric(&running, "dfml_http_requests_in_flight").await < 9.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_well(&running).await;
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_countless_values_is_refused_before_it_is_understood() {
    let shop = Shop::open();
    let options = HttpOptions { bulk_body_bytes_max: 64 << 20, ..server::options(&shop) };
    let running = Running::start(server::ready(&shop, options));
    let before = metric(&running, "process_resident_memory_bytes").await;
    for (path, start, value, end) in
        [("/v1/search/batch", "{\"searches\":[", "{}", "]}"), ("/v1/embeddings", "{\"input\":[", "0", "]}")]
    {
        let values = vec![value; 9_000_000].join(",");
        let length = start.len() + values.len() + end.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        let answer = raw(&running, [head.as_str(), start, &values, end].concat().as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 422") && answer.contains("too_many_values"), "{path}: {answer}");
    }
    let grown = metric(&running, "process_resident_memory_bytes").await - before;
    assert!(grown < 200e6, "{grown} bytes more: this test itself holds 60 MB");
    assert_well(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read_lose_their_connections() {
    let shop = Shop::open();
    let options = HttpOptions {
        connections_max: 2,
        request_timeout: Duration::from_secs(2),
        head_timeout: Duration::from_millis(500),
        ..server::options(&shop)
    };
    let running = Running::start(server::ready(&shop, options));
    let asking = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
    let mut deaf = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(running.address).await.expect("the server listens");
        // The server stops reading once its answers are not taken.
        let _ = timeout(Duration::from_millis(500), client.write_all(asking.as_bytes())).await;
        // It has a place: the server answers, and that is the last that is read of it.
        client.read_u8().await.expect("an answer begins");
        deaf.push(client);
    }
    assert_eq!(get(&running, "/livez").await, "", "both places are taken");
    let start = Instant::now();
    while !raw(&running, &search_request(true)).await.starts_with("HTTP/1.1 200") {
        assert!(start.elapsed() < PATIENCE, "they still have their places");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(deaf);
}

/// Stops the computing thread while it is closed.
#[derive(Default)]
struct Valve {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Valve {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.opened.notify_all();
    }
}

/// A model that is stuck while the valve is closed.
struct Stuck {
    valve: Arc<Valve>,
    metrics: Arc<Metrics>,
}

impl BatchObserver for Stuck {
    fn dequeued(&self, waited: Duration) {
        self.metrics.dequeued(waited);
        let closed = self.valve.closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.valve.opened.wait_while(closed, |closed| *closed));
    }

    fn computed(&self, size: usize, compute: Duration) {
        self.metrics.computed(size, compute);
    }

    fn abandoned(&self) {
        self.metrics.abandoned();
    }
}

fn stuck(shop: &Shop, options: HttpOptions, batch: BatchOptions) -> (Running, Arc<Valve>) {
    let (state, metrics) = server::loading(options);
    let valve = Arc::new(Valve::default());
    let engine = Arc::new(shop.engine());
    let index = Arc::new(shop.index(&engine));
    let mut backend = Backend::new(Arc::clone(&engine), batch, Arc::clone(&metrics), index).expect("threads");
    let observer = Arc::new(Stuck { valve: Arc::clone(&valve), metrics });
    backend.batcher = Batcher::start(engine, batch, observer).expect("threads");
    state.install(backend);
    (Running::start(state), valve)
}

/// Waits until a search has come as far as the model, which is stuck.
async fn at_the_model(running: &Running) {
    while !get(running, "/metrics").await.contains("{stage=\"queue\"}") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_model_stops_neither_the_probes_nor_the_deadline_nor_other_routes() {
    let shop = Shop::open();
    let options = HttpOptions { request_timeout: Duration::from_millis(800), ..server::options(&shop) };
    let batch = BatchOptions { max_batch: 1, queue_capacity: 2, ..BatchOptions::default() };
    let (running, valve) = stuck(&shop, options, batch);
    let running = Arc::new(running);
    valve.set(true);
    let search = || {
        let running = Arc::clone(&running);
        tokio::spawn(async move { raw(&running, &search_request(true)).await })
    };
    let mut searches = vec![search()];
    at_the_model(&running).await;
    searches.extend((0..7).map(|_| search()));
    tokio::time::sleep(Duration::from_millis(150)).await;
    let start = Instant::now();
    assert!(get(&running, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(&running, "/v1/items?limit=1").await.starts_with("HTTP/1.1 200"), "reading needs no model");
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    let (mut late, mut refused) = (0, 0);
    for search in searches {
        let answer = search.await.expect("no panic");
        late += usize::from(answer.starts_with("HTTP/1.1 503") && answer.contains("deadline_exceeded"));
        refused += usize::from(answer.starts_with("HTTP/1.1 429") && answer.contains("retry-after"));
    }
    // One is being computed and two wait; the others are told at once.
    assert_eq!((late, refused), (3, 5));
    valve.set(false);
    assert_well(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_search_too_many_is_refused_and_told_when_to_come_back() {
    let shop = Shop::open();
    let options = HttpOptions { searches_max: 1, ..server::options(&shop) };
    let (running, valve) = stuck(&shop, options, BatchOptions::default());
    let running = Arc::new(running);
    valve.set(true);
    let first = tokio::spawn({
        let running = Arc::clone(&running);
        async move { raw(&running, &search_request(true)).await }
    });
    at_the_model(&running).await;
    let refused = raw(&running, &search_request(true)).await;
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("\"overloaded\"") && refused.contains("1 requests"), "{refused}");
    assert!(get(&running, "/livez").await.starts_with("HTTP/1.1 200"));
    assert_eq!(metric(&running, "dfml_rejected_total{reason=\"overloaded\"}").await, 1.0);
    valve.set(false);
    assert!(first.await.expect("no panic").starts_with("HTTP/1.1 200"));
    assert_well(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_have_left_are_not_computed_for() {
    let shop = Shop::open();
    let batch = BatchOptions { max_batch: 1, ..BatchOptions::default() };
    let (running, valve) = stuck(&shop, server::options(&shop), batch);
    valve.set(true);
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = TcpStream::connect(running.address).await.expect("connect");
        client.write_all(&search_request(false)).await.expect("write");
        clients.push(client);
    }
    // All of them wait before the stuck model.
    for _ in 0..100 {
        if metric(&running, "dfml_queue_depth").await >= 4.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(clients);
    tokio::time::sleep(Duration::from_millis(200)).await;
    valve.set(false);
    assert_well(&running).await;
    assert_eq!(metric(&running, "dfml_abandoned_total").await, 5.0);
    assert_eq!(metric(&running, "dfml_batch_size_count").await, 1.0, "only for the one that stayed");
}
