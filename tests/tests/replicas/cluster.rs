//! Two servers behind nginx on one engine.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use dfml_index::{OpenOptions, VectorIndex as _};
use dfml_qdrant::QdrantIndex;
use dfml_tests::{
    client,
    engine::{self, Engine},
    shop::{PRODUCTS, Shop, VIEWS},
};
use serde_json::{Value, json};

use crate::program::{Serving, dfml, printed, settings};

/// Clients that search while a server is killed.
const CLIENTS: usize = 4;

/// The shop's catalogue on the engine, and two servers of it.
struct Cluster {
    shop: Shop,
    engine: Engine,
    folder: tempfile::TempDir,
    servers: Vec<Serving>,
}

impl Cluster {
    async fn start() -> Self {
        let (shop, engine) = (Shop::open(), Engine::start());
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = settings(folder.path(), &engine.url());
        let mut copy = dfml(&file, &["index", "copy", "--to", "qdrant", "--from"]);
        copy.arg(shop.store());
        printed(copy);
        let servers: Vec<Serving> = (0..2).map(|_| Serving::dfml(&file, &shop)).collect();
        for server in &servers {
            server.wait_until_ready().await;
        }
        Self { shop, engine, folder, servers }
    }

    /// Vectors to search with: those of the shop's items.
    fn vectors(&self) -> Vec<Vec<f32>> {
        let index = self.shop.index(&self.shop.engine());
        index.page(None, usize::MAX).expect("reads").into_iter().map(|item| item.vector).collect()
    }
}

async fn search(http: &reqwest::Client, server: &str, vector: &[f32]) -> Option<(u16, Value)> {
    let body =
        json!({ "vector": vector, "k": 5, "group_by": "item", "exact": true, "category": "Round & even" });
    let answer = http.post(format!("{server}/v1/search")).json(&body).send().await.ok()?;
    Some((answer.status().as_u16(), answer.json().await.ok()?))
}

/// Ids of the results, best first.
fn ids(answer: &Value) -> Vec<String> {
    let results = answer["results"].as_array().expect("results");
    results.iter().map(|result| result["item_id"].as_str().expect("text").to_owned()).collect()
}

async fn put(
    http: &reqwest::Client,
    server: &str,
    id: &str,
    vector: &[f32],
    value: u64,
) -> Option<(u16, Value)> {
    let item = json!({ "id": id, "product_id": format!("of {id}"), "vector": vector,
        "metadata": { "value": value, "category": "Fresh" } });
    let answer =
        http.put(format!("{server}/v1/items")).json(&json!({ "items": [item] })).send().await.ok()?;
    Some((answer.status().as_u16(), answer.json().await.ok()?))
}

/// The status of the one item of a request: its own where the request was understood.
fn status_of((status, answer): &(u16, Value)) -> u64 {
    answer["results"][0]["status"].as_u64().unwrap_or(u64::from(*status))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_through_one_is_read_through_the_other() {
    let cluster = Cluster::start().await;
    let (one, other) = (&cluster.servers[0], &cluster.servers[1]);
    let (http, vector) = (client::client(), cluster.vectors().swap_remove(0));
    let get = async |path: &str| -> Value {
        client::fetch(other.url(path)).await.expect("an answer").json().await.expect("JSON")
    };
    assert_eq!(get("/v1/info").await["index"]["items"], PRODUCTS * VIEWS);
    // So that the categories have been asked for before.
    assert!(
        !get("/v1/categories").await["categories"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|c| c["name"] == "Fresh")
    );
    for round in 0..20 {
        let id = format!("new {round}");
        let stored = put(&http, &one.address, &id, &vector, round).await.expect("an answer");
        assert_eq!(status_of(&stored), 200, "{stored:?}");
        assert_eq!(get(&format!("/v1/items/{id}")).await["metadata"]["value"], round, "at once");
    }
    assert_eq!(get("/v1/info").await["index"]["items"], PRODUCTS * VIEWS + 20);
    let patch = json!({ "items": [{ "id": "new 3", "metadata": { "value": 77 } }] });
    let patched = http.patch(one.url("/v1/items")).json(&patch).send().await.expect("an answer");
    assert_eq!(patched.status(), 200, "{:?}", patched.text().await);
    assert_eq!(get("/v1/items/new%203").await["metadata"]["value"], 77);
    let gone =
        http.delete(one.url("/v1/items")).json(&json!({ "ids": ["new 4"] })).send().await.expect("an answer");
    assert_eq!(gone.status(), 200);
    assert_eq!(client::fetch(other.url("/v1/items/new%204")).await.expect("an answer").status(), 404);
    // Categories are remembered for a while, and for no longer.
    let start = Instant::now();
    loop {
        let found = get("/v1/categories").await;
        if found["categories"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|c| c["name"] == "Fresh" && c["items"] == 19)
        {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{found}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_under_load_costs_no_wrong_answer() {
    let mut cluster = Cluster::start().await;
    let nginx = Serving::nginx(cluster.folder.path(), &cluster.servers.iter().collect::<Vec<_>>());
    nginx.wait_until_ready().await;
    let (http, vectors) = (client::client(), Arc::new(cluster.vectors()));
    let mut expected = Vec::new();
    for vector in vectors.iter() {
        let (status, answer) = search(&http, &nginx.address, vector).await.expect("an answer");
        assert_eq!(status, 200, "{answer}");
        expected.push(ids(&answer));
    }
    let (expected, stop) = (Arc::new(expected), Arc::new(AtomicBool::new(false)));
    let answers: Arc<Mutex<BTreeMap<u16, usize>>> = Arc::default();
    let searching: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (http, vectors, expected) = (client::client(), Arc::clone(&vectors), Arc::clone(&expected));
            let (stop, answers, address) = (Arc::clone(&stop), Arc::clone(&answers), nginx.address.clone());
            tokio::spawn(async move {
                for number in client.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let position = number % vectors.len();
                    let status = match search(&http, &address, &vectors[position]).await {
                        Some((200, answer)) => {
                            // The writer's items are of another category.
                            assert_eq!(ids(&answer), expected[position], "no wrong answer");
                            200
                        }
                        Some((status, _)) => status,
                        None => 0,
                    };
                    *answers.lock().expect("no panic").entry(status).or_default() += 1;
                }
            })
        })
        .collect();
    let acknowledged: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let writing = {
        let (stop, acknowledged, address) =
            (Arc::clone(&stop), Arc::clone(&acknowledged), nginx.address.clone());
        let (http, vectors) = (client::client(), Arc::clone(&vectors));
        tokio::spawn(async move {
            for number in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let id = format!("w {number}");
                let answer =
                    put(&http, &address, &id, &vectors[number as usize % vectors.len()], number).await;
                if answer.is_some_and(|answer| status_of(&answer) == 200) {
                    acknowledged.lock().expect("no panic").insert(id, number);
                }
            }
        })
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.servers[0].kill();
    let before: usize = answers.lock().expect("no panic").values().sum();
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::SeqCst);
    for task in searching {
        task.await.expect("no wrong answer");
    }
    writing.await.expect("no panic");
    let answers = answers.lock().expect("no panic").clone();
    println!("answers by status: {answers:?}, {before} before the kill");
    assert!(answers.keys().all(|status| [200, 429, 502, 503, 504].contains(status)), "{answers:?}");
    let (all, good): (usize, usize) = (answers.values().sum(), answers[&200]);
    assert!(good > before, "it goes on with the other: {answers:?}");
    assert!(all - good <= 2 * CLIENTS, "at most what was under way is refused: {answers:?}");
    let acknowledged = acknowledged.lock().expect("no panic").clone();
    assert!(acknowledged.len() > 10, "too little was written to tell");
    for (id, value) in &acknowledged {
        let item: Value = client::fetch(cluster.servers[1].url(&format!("/v1/items/{id}")))
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        assert_eq!(item["metadata"]["value"], *value, "{id} was acknowledged");
    }
    println!("{} writes acknowledged, none lost", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_is_told_and_its_return_needs_nobody() {
    let mut cluster = Cluster::start().await;
    let (http, vectors) = (client::client(), cluster.vectors());
    let server = cluster.servers[0].address.clone();
    let (_, before) = search(&http, &server, &vectors[0]).await.expect("an answer");
    let mut acknowledged = Vec::new();
    for number in 0..10 {
        let answer =
            put(&http, &server, &format!("k {number}"), &vectors[0], number).await.expect("an answer");
        assert_eq!(status_of(&answer), 200);
        acknowledged.push(number);
    }
    cluster.engine.kill();
    for server in &cluster.servers {
        let start = Instant::now();
        let answer = http
            .post(server.url("/v1/search"))
            .json(&json!({ "vector": vectors[0], "k": 5 }))
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        let problem: Value = answer.json().await.expect("JSON");
        assert_eq!(problem["code"], "index_unavailable", "{problem}");
        assert!(start.elapsed() < Duration::from_secs(4), "soon: {:?}", start.elapsed());
        server.wait_for(503, Duration::from_secs(5)).await;
        let told = client::fetch(server.url("/readyz")).await.expect("an answer").text().await.expect("text");
        assert!(told.contains("engine"), "{told}");
        let alive = client::fetch(server.url("/livez")).await.expect("an answer").status();
        assert_eq!(alive, 200, "a process that is alive is not killed for that");
        let stats: Value =
            client::fetch(server.url("/v1/stats")).await.expect("an answer").json().await.expect("JSON");
        assert!(stats["problems"].to_string().contains("engine"), "{stats}");
    }
    let written = put(&http, &server, "k 99", &vectors[0], 99).await.expect("an answer");
    assert_eq!(status_of(&written), 503, "{written:?}");
    cluster.engine.start_again();
    for server in &cluster.servers {
        server.wait_for(200, Duration::from_secs(10)).await;
    }
    let (status, after) = search(&http, &server, &vectors[0]).await.expect("an answer");
    assert_eq!((status, ids(&after)), (200, ids(&before)));
    for number in acknowledged {
        let url = cluster.servers[1].url(&format!("/v1/items/k%20{number}"));
        let item: Value = client::fetch(url).await.expect("an answer").json().await.expect("JSON");
        assert_eq!(item["metadata"]["value"], number, "it was acknowledged");
    }
}

/// The job once it is in one of these states.
async fn job_until(server: &Serving, id: &str, states: &[&str], patience: Duration) -> Value {
    let start = Instant::now();
    loop {
        let job: Value = client::fetch(server.url(&format!("/v1/jobs/{id}")))
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        if states.iter().any(|state| job["state"] == *state) {
            return job;
        }
        assert!(start.elapsed() < patience, "{job}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_while_another_server_is_at_one() {
    let cluster = Cluster::start().await;
    let manifest = cluster.shop.engine().manifest().clone();
    let options = OpenOptions::new(manifest.embedding_dim, manifest.fingerprint());
    let qdrant = engine::options(&cluster.engine.url(), "shop");
    // In the place of a third server that is at a job.
    let third = QdrantIndex::open(&qdrant, &options).expect("opens");
    let lease = third.lease("jobs").expect("asks").expect("free");
    let (http, mut jobs) = (client::client(), Vec::new());
    for server in &cluster.servers {
        let asked = http.post(server.url("/v1/import")).json(&json!({ "list": "gallery.txt" })).send().await;
        let job: Value = asked.expect("an answer").json().await.expect("JSON");
        jobs.push(job["id"].as_str().expect("an id").to_owned());
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (server, id) in cluster.servers.iter().zip(&jobs) {
        job_until(server, id, &["queued"], Duration::ZERO).await;
    }
    drop(lease);
    let mut embedded = 0;
    for (server, id) in cluster.servers.iter().zip(&jobs) {
        let job = job_until(server, id, &["done", "failed"], Duration::from_secs(60)).await;
        assert_eq!(job["state"], "done", "{job}");
        embedded += job["result"]["embedded"].as_u64().expect("a number");
    }
    // The second found done what the first had done.
    assert_eq!(embedded, PRODUCTS * VIEWS);
}
