//! The program itself: killed while it writes, bound where it may not be, on a machine without the GPU that it is to use.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use dfml_tests::{binaries, client, form::data_uri, pictures, shop::Shop};
use serde_json::{Value, json};

/// Times that the server is killed.
const ROUNDS: usize = 4;

/// `dfml serve`, killed when dropped.
pub(super) struct Server {
    process: Child,
    pub(super) address: String,
}

impl Server {
    pub(super) fn start(shop: &Shop, store: &Path) -> Self {
        Self::run(serve(shop, store).stderr(Stdio::null()))
    }

    /// Runs `dfml serve` as this command says, and waits until it listens.
    pub(super) fn run(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("dfml starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listens on")).expect("it says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        let address = line.split_whitespace().last().expect("an address").to_owned();
        Self { process, address }
    }

    /// Kills it as a power cut would, as far as a process can be.
    pub(super) fn kill(mut self) {
        self.process.kill().expect("SIGKILL");
        self.process.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `dfml serve` on a free port.
pub(super) fn serve(shop: &Shop, store: &Path) -> Command {
    let mut command = Command::new(binaries::dfml());
    command.args(["serve", "--bind", "127.0.0.1:0", "--threads", "1", "--model"]);
    command.arg(shop.model()).arg("--catalogue").arg(store);
    command
}

/// Waits until it is ready, and checks that it says no until then.
pub(super) async fn wait_until_ready(server: &Server) -> bool {
    let (start, mut said_no) = (Instant::now(), false);
    while start.elapsed() < Duration::from_secs(30) {
        // It listens before it has loaded anything.
        let answer = client::fetch(format!("{}/readyz", server.address)).await.expect("it answers at once");
        match answer.status().as_u16() {
            200 => return said_no,
            503 => said_no = true,
            other => panic!("/readyz answered {other}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not ready after 30 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_missing_after_a_kill() {
    let shop = Shop::open();
    let store = shop.store();
    // What the server has acknowledged: item id and the number last stored with it; `None` after a delete.
    let acknowledged: Arc<Mutex<BTreeMap<String, Option<u64>>>> = Arc::default();
    let mut said_no = false;
    for round in 0..ROUNDS as u64 {
        let server = Server::start(&shop, &store);
        said_no |= wait_until_ready(&server).await;
        let expected = acknowledged.lock().expect("no panic").clone();
        check(&server, &expected).await;
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3u64)
            .map(|writer| {
                let (url, stop, acknowledged) =
                    (format!("{}/v1/items", server.address), Arc::clone(&stop), Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    let http = client::client();
                    for number in 0.. {
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                        let id = format!("w{writer}-{}", number % 7);
                        let stored = number % 5 != 4;
                        let value = round * 1_000_000 + number;
                        let request = if stored {
                            let image = data_uri("png", &pictures::png(number % 9, writer));
                            let item = json!({ "id": id, "product_id": id, "image": image, "metadata": { "value": value } });
                            http.put(&url).json(&json!({ "items": [item] }))
                        } else {
                            http.delete(&url).json(&json!({ "ids": [id] }))
                        };
                        // Until the answer is there, either may be true after the kill: not checked.
                        acknowledged.lock().expect("no panic").remove(&id);
                        let Ok(answer) = request.send().await else { break };
                        let Ok(answer) = answer.json::<Value>().await else { break };
                        let status = answer["results"][0]["status"].as_u64();
                        assert!(status == Some(200) || (!stored && status == Some(404)), "{answer}");
                        acknowledged.lock().expect("no panic").insert(id, stored.then_some(value));
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(400 + 150 * round)).await;
        server.kill();
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.await.expect("no panic");
        }
        assert!(acknowledged.lock().expect("no panic").len() > 3, "too little was written to tell");
    }
    let server = Server::start(&shop, &store);
    said_no |= wait_until_ready(&server).await;
    let expected = acknowledged.lock().expect("no panic").clone();
    check(&server, &expected).await;
    assert!(said_no, "/readyz was never false while the index was loaded");
}

async fn check(server: &Server, acknowledged: &BTreeMap<String, Option<u64>>) {
    for (id, value) in acknowledged {
        let answer = client::fetch(format!("{}/v1/items/{id}", server.address)).await.expect("an answer");
        match value {
            Some(value) => {
                assert_eq!(answer.status(), 200, "{id} was acknowledged");
                let item: Value = answer.json().await.expect("JSON");
                assert_eq!(item["metadata"]["value"], *value, "{id}");
            }
            None => assert_eq!(answer.status(), 404, "the deletion of {id} was acknowledged"),
        }
    }
}

/// Asked for a GPU on a machine without one, it says so wherever one looks, or refuses if it has to have one.
#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_is_not_there_is_never_missed_in_silence() {
    let shop = Shop::open();
    let store = shop.store();
    let log = tempfile::NamedTempFile::new().expect("a file");
    let server = Server::run(
        serve(&shop, &store).args(["--provider", "cuda"]).stderr(log.reopen().expect("the same file")),
    );
    wait_until_ready(&server).await;
    let answer = client::fetch(format!("{}/v1/info", server.address)).await.expect("an answer");
    let provider = answer.json::<Value>().await.expect("JSON")["provider"].take();
    drop(server);
    if provider["active"] == "cuda" {
        return; // There is a GPU.
    }
    assert_eq!((&provider["requested"], &provider["active"]), (&"cuda".into(), &"cpu".into()));
    let reason = provider["reason"].as_str().expect("text");
    assert!(reason.contains("cuda failed: "), "{reason}");
    let log = std::fs::read_to_string(log.path()).expect("text");
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains("cuda")), "no warning: {log}");

    let output =
        serve(&shop, &store).args(["--provider", "cuda", "--require-gpu"]).output().expect("dfml starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("GPU is required") && told.contains(reason), "{told}");
}

#[test]
fn other_machines_are_not_served_without_keys_by_accident() {
    let shop = Shop::open();
    let refused = |arguments: &[&str]| {
        let output = Command::new(binaries::dfml())
            .args(["serve", "--bind", "0.0.0.0:0", "--model"])
            .arg(shop.model())
            .arg("--catalogue")
            .arg(shop.store())
            .args(arguments)
            .output()
            .expect("dfml starts");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = refused(&[]);
    assert!(
        told.contains("0.0.0.0:0") && told.contains("--keys") && told.contains("--allow-anonymous"),
        "{told}"
    );
    let told = refused(&["--keys", "/nowhere/keys.toml"]);
    assert!(told.contains("/nowhere/keys.toml"), "{told}");
}

#[test]
fn a_key_is_made_and_its_secret_is_not_in_the_entry() {
    let output = Command::new(binaries::dfml())
        .args(["key", "shop-app", "--scope", "write"])
        .output()
        .expect("dfml starts");
    assert!(output.status.success());
    let (entry, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let secret = told.split_whitespace().last().expect("the secret");
    let ring = dfml_serve::access::KeyRing::from_toml(&entry).expect("an entry");
    assert_eq!(ring.find(secret), Some(("shop-app".into(), dfml_serve::access::Scope::Write)));
    assert!(!entry.contains(secret));
}
