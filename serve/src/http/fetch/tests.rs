//! Fetching from servers on this machine that try to mislead it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Answers every request with what `answer` makes of its path.
async fn site(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                let read = client.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
                // The client may have seen enough and gone.
                let _ = client.write_all(&answer(&path)).await;
            });
        }
    });
    address
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

fn options(hosts: &[&str], networks: &[&str]) -> FetchOptions {
    FetchOptions {
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        networks: networks.iter().map(|network| network.parse().expect("a block")).collect(),
        timeout: Duration::from_millis(1500),
        redirects_max: 3,
    }
}

fn fetcher(
    options: &FetchOptions,
    lookup: impl Fn(String) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
) -> Fetcher {
    let memory = BodyMemory::new(1 << 20);
    Fetcher::with_lookup(options, memory, Arc::new(lookup)).expect("a client").expect("switched on")
}

fn local(_: String) -> io::Result<Vec<IpAddr>> {
    Ok(vec!["127.0.0.1".parse().expect("an address")])
}

fn code(result: Result<Bytes, ApiError>) -> String {
    match result {
        Ok(body) => format!("ok {}", body.len()),
        Err(ApiError::UrlRefused { reason, .. }) => format!("refused: {reason}"),
        Err(ApiError::UrlFailed { reason, .. }) => format!("failed: {reason}"),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn no_hosts_switch_fetching_off() {
    assert!(Fetcher::new(&FetchOptions::default(), BodyMemory::new(1 << 20)).expect("a client").is_none());
}

#[test]
fn rules_name_hosts_parents_and_ports() {
    let fits = |rule: &str, name: &str, port: u16| matches(rule, name, port);
    assert!(
        fits("cdn.example.com", "cdn.example.com", 443) && fits("CDN.example.com", "cdn.example.com", 80)
    );
    assert!(
        !fits("cdn.example.com", "cdn.example.com", 8080)
            && fits("cdn.example.com:8080", "cdn.example.com", 8080)
    );
    assert!(!fits("cdn.example.com:8080", "cdn.example.com", 443));
    assert!(fits("*.example.com", "a.b.example.com", 443) && !fits("*.example.com", "example.com", 443));
    assert!(
        !fits("*.example.com", "evilexample.com", 443) && !fits("example.com", "example.com.evil.org", 443)
    );
    assert!(fits("[::1]:8080", "[::1]", 8080) && !fits("[::1]", "[::1]", 8080));
}

#[tokio::test]
async fn a_listed_host_is_fetched_within_its_limits() {
    let address = site(|path| match path {
        "/picture" => ok(b"picture"),
        "/moved" => redirect("/picture"),
        "/loop" => redirect("/loop"),
        "/endless" => {
            b"HTTP/1.1 200 OK\r\n\r\n".iter().copied().chain(std::iter::repeat_n(b'x', 5000)).collect()
        }
        _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
    })
    .await;
    let host = format!("shop.test:{}", address.port());
    let fetcher = fetcher(&options(&[&host], &["127.0.0.0/8"]), local);
    let get = async |path: &str| code(fetcher.fetch(&format!("http://{host}{path}"), 1000).await);
    assert_eq!(get("/picture").await, "ok 7");
    assert_eq!(get("/moved").await, "ok 7");
    assert_eq!(get("/loop").await, "failed: more than 3 redirects");
    assert_eq!(get("/endless").await, "failed: it is larger than 1000 bytes");
    assert_eq!(get("/missing").await, "failed: it answered 404");
}

#[tokio::test]
async fn other_hosts_schemes_and_addresses_are_refused() {
    let address = site(|_| ok(b"secret")).await;
    let port = address.port();
    let hosts =
        [format!("shop.test:{port}"), format!("127.0.0.1:{port}"), format!("[::ffff:127.0.0.1]:{port}")];
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    // No block is allowed: what the names and literals lead to is this machine.
    let fetcher = fetcher(&options(&hosts, &[]), local);
    let get = async |url: &str| code(fetcher.fetch(url, 1000).await);
    let not_public = "refused: its address is not public";
    assert_eq!(get(&format!("http://shop.test:{port}/")).await, not_public);
    assert_eq!(get(&format!("http://127.0.0.1:{port}/")).await, not_public);
    assert_eq!(get(&format!("http://2130706433:{port}/")).await, not_public, "127.0.0.1 as one number");
    assert_eq!(get(&format!("http://0x7f.1:{port}/")).await, not_public, "127.0.0.1 in hexadecimal");
    assert_eq!(get(&format!("http://[::ffff:127.0.0.1]:{port}/")).await, not_public);
    let not_listed = "refused: its host is not on the server's list";
    assert_eq!(get(&format!("http://other.test:{port}/")).await, not_listed);
    assert_eq!(get("http://169.254.169.254/latest/meta-data/").await, not_listed);
    assert_eq!(get("file:///etc/passwd").await, "refused: only http and https addresses are fetched");
    let with_password = get(&format!("http://user:pass@shop.test:{port}/")).await;
    assert_eq!(with_password, "refused: an address must not carry credentials");
}

#[tokio::test]
async fn a_redirect_cannot_lead_where_a_request_may_not() {
    let inside = site(|_| ok(b"secret")).await;
    let outside = site(move |path| match path {
        "/host" => redirect(&format!("http://other.test:{}/", inside.port())),
        "/scheme" => redirect("file:///etc/passwd"),
        _ => redirect(&format!("http://inside.test:{}/", inside.port())),
    })
    .await;
    let host = format!("shop.test:{}", outside.port());
    let options = options(&[&host, &format!("inside.test:{}", inside.port())], &["127.0.0.1/32"]);
    let fetcher = fetcher(&options, |name| {
        Ok(vec![if name == "inside.test" { "127.0.0.2" } else { "127.0.0.1" }.parse().expect("an address")])
    });
    let get = async |path: &str| code(fetcher.fetch(&format!("http://{host}{path}"), 1000).await);
    assert_eq!(get("/host").await, "refused: its host is not on the server's list");
    assert_eq!(get("/scheme").await, "refused: only http and https addresses are fetched");
    assert_eq!(get("/address").await, "refused: its address is not public");
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to() {
    let address = site(|_| ok(b"picture")).await;
    let host = format!("rebinding.test:{}", address.port());
    let lookups = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lookups);
    // Allowed at the first look-up, private at every later one: what is checked must be what is used.
    let fetcher = fetcher(&options(&[&host], &["127.0.0.1/32"]), move |_| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(vec![if first { "127.0.0.1" } else { "10.0.0.1" }.parse().expect("an address")])
    });
    let url = format!("http://{host}/");
    assert_eq!(code(fetcher.fetch(&url, 1000).await), "ok 7");
    assert_eq!(lookups.load(Ordering::SeqCst), 1);
    assert_eq!(code(fetcher.fetch(&url, 1000).await), "refused: its address is not public");
}

#[tokio::test]
async fn a_site_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let host = format!("slow.test:{}", listener.local_addr().expect("bound").port());
    let short = FetchOptions { timeout: Duration::from_millis(100), ..options(&[&host], &["127.0.0.1/32"]) };
    let fetcher = fetcher(&short, local);
    let answer = code(fetcher.fetch(&format!("http://{host}/"), 1000).await);
    assert_eq!(answer, "failed: nothing came within 0.1 s");
}
