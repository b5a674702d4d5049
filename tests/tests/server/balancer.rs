//! nginx as docker/compose.cluster.yaml sets it up, in front of servers that die, load or answer nothing: what it sends to the other server,
//! and what it must not.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dfml_serve::http::HttpOptions;
use dfml_tests::{
    balancer::{Balancer, configuration, objections},
    client, pictures,
    shop::{PRODUCTS, Shop},
};
use reqwest::Method;
use serde_json::Value;

use crate::program::{Server, wait_until_ready};

/// What a made-up server does with a request that it has read.
#[derive(Clone, Copy)]
enum Does {
    /// Closes the connection, as one that is killed.
    Nothing,
    /// Answers with this status.
    Answers(u16),
}

/// How often each request, by its id, arrived at a made-up server.
type Arrived = Arc<Mutex<BTreeMap<String, usize>>>;

/// A server that counts what arrives. It ends with the test.
fn made_up(does: Does) -> (SocketAddr, Arrived) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let arrived = Arrived::default();
    let seen = Arc::clone(&arrived);
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let mut connection = BufReader::new(connection);
            let (mut id, mut length, mut line) = (String::new(), 0, String::new());
            while connection.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some((name, value)) = line.trim().split_once(": ") {
                    match name.to_ascii_lowercase().as_str() {
                        "x-request-id" => value.clone_into(&mut id),
                        "content-length" => length = value.parse().expect("a length"),
                        _ => {}
                    }
                }
                line.clear();
            }
            let _ = connection.read_exact(&mut vec![0; length]);
            *seen.lock().expect("no panic").entry(id).or_default() += 1;
            if let Does::Answers(status) = does {
                let answer =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\nconnection: close\r\n\r\nmade\n");
                let _ = connection.get_mut().write_all(answer.as_bytes());
            }
        }
    });
    (address, arrived)
}

/// A port that nobody listens on.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port")
}

/// Requests, and whether they may be sent twice.
fn requests() -> [(Method, &'static str, bool); 9] {
    [
        (Method::GET, "/v1/info", true),
        (Method::POST, "/v1/search", true),
        (Method::POST, "/v1/search/batch", true),
        (Method::POST, "/v1/embeddings", true),
        (Method::PUT, "/v1/items", true),
        (Method::DELETE, "/v1/products", true),
        (Method::PATCH, "/v1/items", false),
        (Method::POST, "/v1/import", false),
        (Method::POST, "/v1/models", false),
    ]
}

/// Sends each request a few times; the statuses and bodies by request id.
async fn send(balancer: &Balancer, method: &Method, path: &str) -> BTreeMap<String, (u16, String)> {
    let mut answers = BTreeMap::new();
    for number in 0..4 {
        let id = format!("{number}-{}", path.replace('/', "-"));
        let request = client::client()
            .request(method.clone(), balancer.url(path))
            .header("x-request-id", &id)
            .body("{}");
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        answers.insert(id, (status, answer.text().await.expect("text")));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_safe_to_repeat_is_sent_to_the_other_server() {
    for does in [Does::Nothing, Does::Answers(503)] {
        for (method, path, repeatable) in requests() {
            let ((bad, at_bad), (good, at_good)) = (made_up(does), made_up(Does::Answers(200)));
            let balancer = Balancer::start([bad, good]);
            let answers = send(&balancer, &method, path).await;
            let (at_bad, at_good) = (at_bad.lock().expect("no panic"), at_good.lock().expect("no panic"));
            assert!(!at_bad.is_empty(), "{method} {path} never came to the bad server");
            for (id, (status, body)) in &answers {
                let arrived = [at_bad.get(id), at_good.get(id)].map(|count| count.copied().unwrap_or(0));
                if repeatable {
                    assert_eq!((*status, arrived[1]), (200, 1), "{method} {path}: {body}");
                } else {
                    assert_eq!(arrived.iter().sum::<usize>(), 1, "{method} {path} arrived {arrived:?}");
                    assert_eq!(*status, if arrived[0] == 1 { 503 } else { 200 }, "{method} {path}: {body}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_on_while_one_server_cannot_be_reached() {
    let (good, arrived) = made_up(Does::Answers(200));
    let balancer = Balancer::start([nobody(), good]);
    for (method, path, _) in requests() {
        for (id, (status, body)) in send(&balancer, &method, path).await {
            assert_eq!(status, 200, "{method} {path}: {body}");
            assert_eq!(arrived.lock().expect("no panic").remove(&id), Some(1), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_server_the_answer_says_so_and_when_to_try_again() {
    let balancer = Balancer::start([nobody(), nobody()]);
    for _ in 0..6 {
        let search = client::client().post(balancer.url("/v1/search")).header("x-request-id", "mine");
        let answer = search.body("x").send().await.expect("an answer");
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "2");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.expect("JSON");
        assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some("no_server"), Some(503)));
        assert_eq!(problem["request_id"], "mine");
    }
    // An id that would break the document is replaced.
    let search = client::client().post(balancer.url("/v1/search")).header("x-request-id", "\"");
    let problem: Value = search.send().await.expect("an answer").json().await.expect("JSON");
    assert_ne!(problem["request_id"], "\"");
    let alive = client::fetch(balancer.url("/balancer/livez")).await.expect("an answer");
    assert_eq!(alive.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_the_servers_own_bounds_and_the_metrics_stay_inside() {
    let (good, arrived) = made_up(Does::Answers(200));
    let balancer = Balancer::start([good, good]);
    let options = HttpOptions::default();
    for (path, most) in [("/v1/search", options.body_bytes_max), ("/v1/items", options.bulk_body_bytes_max)] {
        for (length, expected) in [(most, 200), (most + 1, 413)] {
            let put = client::client().put(balancer.url(path)).body(vec![b' '; length]);
            let answer = put.send().await.expect("an answer");
            assert_eq!(answer.status(), expected, "{path} with {length} bytes");
            if expected == 413 {
                let problem: Value = answer.json().await.expect("JSON");
                assert_eq!(problem["code"], "body_too_large");
            }
        }
    }
    let before = arrived.lock().expect("no panic").len();
    let metrics = client::fetch(balancer.url("/metrics")).await.expect("an answer");
    assert_eq!((metrics.status().as_u16(), arrived.lock().expect("no panic").len()), (404, before));
}

#[test]
fn a_mistake_in_the_configuration_is_found() {
    assert_eq!(objections(&configuration()), None);
    let wrong = configuration().replace("proxy_next_upstream_tries 2", "proxy_next_upstream_trys 2");
    let said = objections(&wrong).expect("a directive that does not exist");
    assert!(said.contains("proxy_next_upstream_trys"), "{said}");
}

/// The times of the configuration fit those of the server.
#[test]
fn times_are_those_of_the_servers() {
    let (text, options) = (configuration(), HttpOptions::default());
    let seconds = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).expect(name);
        line.trim().trim_end_matches("s;").parse::<u64>().map(Duration::from_secs).expect(name)
    };
    assert!(seconds("proxy_read_timeout") > options.request_timeout);
    assert!(seconds("keepalive_timeout") < options.head_timeout);
    assert!(seconds("proxy_next_upstream_timeout") < options.request_timeout);
}

/// Two servers with the same catalogue; one is killed while both are searched.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_a_server_is_killed() {
    let shops = [Shop::open(), Shop::open()];
    let servers = shops.each_ref().map(|shop| Server::start(shop, &shop.store()));
    for server in &servers {
        wait_until_ready(server).await;
    }
    let address = |server: &Server| server.address.strip_prefix("http://").expect("http").parse();
    let addresses = servers.each_ref().map(|server| address(server).expect("an address"));
    let balancer = Arc::new(Balancer::start(addresses));
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4u64)
        .map(|number| {
            let (balancer, stop, answered) =
                (Arc::clone(&balancer), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let http = client::client();
                for class in (0..PRODUCTS).cycle().skip(number as usize * 3) {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let search = http
                        .post(balancer.url("/v1/search"))
                        .header("content-type", "image/jpeg")
                        .body(pictures::jpeg(class, 0));
                    let answer = search.send().await.expect("an answer");
                    assert_eq!(answer.status(), 200);
                    let answer: Value = answer.json().await.expect("JSON");
                    assert_eq!(answer["results"][0]["product_id"], class.to_string());
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let before = answered.load(Ordering::SeqCst);
    let [first, second] = servers;
    first.kill();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.expect("every answer was right");
    }
    let after = answered.load(Ordering::SeqCst) - before;
    assert!(before > 10 && after > 10, "{before} before, {after} after");
    second.kill();
    let search = client::client().post(balancer.url("/v1/search")).body(pictures::jpeg(0, 0));
    assert_eq!(search.send().await.expect("an answer").status(), 503);
}
