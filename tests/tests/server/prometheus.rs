//! Debian's own Prometheus scrapes a running server, and its promtool checks what is scraped and the rules that are shipped.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use dfml_tests::{
    binaries::workspace,
    client, pictures,
    server::{self, Running},
    shop::Shop,
};
use serde_json::Value;

/// Where `cargo xtask setup --with prometheus` puts it.
fn program(name: &str) -> PathBuf {
    let path = dfml_models::cache_dir().join("prometheus-2.42.0").join(name);
    assert!(path.is_file(), "{} is missing; `cargo xtask test` fetches it", path.display());
    path
}

/// Runs promtool and returns what it said.
fn promtool(arguments: &[&str], input: Option<&str>) -> String {
    let mut command = Command::new(program("promtool"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.current_dir(workspace().join("docker/prometheus"));
    let mut process = command.spawn().expect("promtool starts");
    if let Some(input) = input {
        let mut pipe = process.stdin.take().expect("piped");
        std::io::Write::write_all(&mut pipe, input.as_bytes()).expect("write");
    }
    let output = process.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

async fn busy(running: &Running) {
    let http = client::client();
    for class in 0..6 {
        let search = http
            .post(running.url("/v1/search"))
            .header("content-type", "image/jpeg")
            .body(pictures::jpeg(class, 0));
        assert_eq!(search.send().await.expect("an answer").status(), 200);
    }
    let wrong = http.post(running.url("/v1/search")).header("content-type", "image/jpeg").body("no picture");
    assert_eq!(wrong.send().await.expect("an answer").status(), 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong_with_the_metrics_and_the_rules() {
    let shop = Shop::open();
    let running = Running::start(server::ready(&shop, server::options(&shop)));
    busy(&running).await;
    let text = client::fetch(running.url("/metrics")).await.expect("an answer").text().await.expect("text");
    let said = promtool(&["check", "metrics"], Some(&text));
    assert_eq!(said, "", "promtool check metrics");
    promtool(&["check", "rules", "dfml.rules.yml"], None);
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"], None);
    promtool(&["test", "rules", "dfml.rules.test.yml"], None);
}

/// Prometheus itself, on a free port. Killed when dropped.
struct Prometheus(Child, u16);

impl Prometheus {
    fn start(folder: &Path, target: &str) -> Self {
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{:?}]\nscrape_configs:\n  - job_name: dfml\n    \
             static_configs: [{{targets: [{target:?}]}}]\n",
            workspace().join("docker/prometheus/dfml.rules.yml")
        );
        fs_err::write(folder.join("prometheus.yml"), config).expect("write");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a free port")
            .port();
        let process = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        Self(process, port)
    }

    /// The value of a query, once there is one.
    async fn value(&self, query: &str) -> f64 {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30) {
            let url = url::Url::parse_with_params(
                &format!("http://127.0.0.1:{}/api/v1/query", self.1),
                [("query", query)],
            );
            if let Ok(answer) = client::fetch(url.expect("an address")).await
                && let Ok(answer) = answer.json::<Value>().await
                && let Some(value) = answer["data"]["result"][0]["value"][1].as_str()
            {
                return value.parse().expect("a number");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("Prometheus has no value for {query}");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_a_running_server_and_its_rules_have_values() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().expect("temporary folder"));
    let running = Running::start(server::ready(&shop, server::options(&shop)));
    busy(&running).await;
    let prometheus = Prometheus::start(folder.path(), &running.address.to_string());
    assert_eq!(prometheus.value("up{job=\"dfml\"}").await, 1.0);
    assert_eq!(prometheus.value("sum(dfml_http_requests_total{route=\"/v1/search\"})").await, 7.0);
    assert_eq!(prometheus.value("dfml_index_items").await, 36.0);
    busy(&running).await;
    let p99 = prometheus.value("dfml:search_duration_seconds:p99 > 0").await;
    assert!(p99 < 5.0, "{p99}");
    // Every metric that the dashboard and the rules name is one that the server has.
    let names = metric_names();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        prometheus.value(&format!("count({{__name__=~\"{name}(_bucket|_sum|_count)?\"}})")).await;
    }
}

/// The names of our metrics in the dashboard.
fn metric_names() -> std::collections::BTreeSet<String> {
    let dashboard = fs_err::read_to_string(workspace().join("docker/grafana/dashboards/dfml.json"))
        .expect("the dashboard");
    let words = dashboard.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let ours = words.filter(|word| word.starts_with("dfml_") && !word.contains(':'));
    let base = |word: &str| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| word.strip_suffix(suffix))
            .unwrap_or(word)
            .to_owned()
    };
    ours.map(base).collect()
}
