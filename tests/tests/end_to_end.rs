//! The whole way with the real programs: train, verify, index, evaluate, search, serve, query over HTTP, stop.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use dfml_tests::{
    binaries,
    pictures::{self, SHAPES},
};
use reqwest::blocking::{Client, multipart};
use serde_json::{Value, json};

const TRAINED: [u64; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
const UNSEEN: [u64; 4] = [8, 9, 10, 11];
const GALLERY_VIEWS: u64 = 5;
/// Small enough for seconds of training on two cores.
const CONFIG: &str = r#"
name = "end-to-end"

[data]
train = "Ebay_train.txt"
test = "Ebay_test.txt"
image_size = 64
resize_short = 72
batch_size = 16
images_per_class = 4

[model]
sub_blocks = 3
embedding_dim = 32
frozen_blocks = 3

[optimizer]
epochs = 1
learning_rate = 1e-4
warm_epochs = 0.3
schedule = "cosine"

[run]
select_on = "last"
"#;

#[test]
fn train_verify_index_search_and_serve() {
    let place = tempfile::tempdir().expect("temporary folder");
    let shop = draw_catalogue(&place.path().join("catalogue"));
    let (run, store) = (place.path().join("run"), place.path().join("store"));
    let model = run.join("model");
    let config = place.path().join("tiny.toml");
    fs_err::write(&config, CONFIG).expect("write");
    let weights = weights();

    succeed(
        Command::new(binaries::dfml_train())
            .arg("fit")
            .args([
                as_arg("--config"),
                config.as_path(),
                as_arg("--data"),
                &shop,
                as_arg("--weights"),
                &weights,
            ])
            .args([as_arg("--out"), run.as_path(), as_arg("--seed"), as_arg("1")]),
    );
    for file in ["checkpoint.safetensors", "metrics.json", "model/model.onnx", "model/manifest.json"] {
        assert!(run.join(file).is_file(), "training wrote no {file}");
    }

    let dfml = binaries::dfml();
    succeed(Command::new(&dfml).arg("verify").arg(&model));
    let manifest: Value = read_json(&model.join("manifest.json"));
    let cosine = manifest["parity"]["min_cosine"].as_f64().expect("verify records what it found");
    assert!(cosine >= 0.99999, "cosine {cosine} between ONNX Runtime and libtorch");

    index(&dfml, &model, &store, &shop);
    let again = index(&dfml, &model, &store, &shop);
    assert!(again.contains("0 embedded"), "a second run has nothing to embed, but: {again}");

    let query = place.path().join("query.jpg");
    fs_err::write(&query, pictures::jpeg(UNSEEN[1], 0)).expect("write");
    let found = succeed(
        Command::new(&dfml).args(["search", "-k", "3", "--json"]).arg(&query).args(stores(&model, &store)),
    );
    let first: Value = serde_json::from_str(found.lines().next().expect("a hit")).expect("JSON lines");
    assert_eq!(first["product_id"], UNSEEN[1].to_string(), "{found}");

    serve_and_query(&dfml, &model, &store, &shop);
}

/// Pictures, lists and products in the layout of Stanford Online Products.
fn draw_catalogue(root: &Path) -> PathBuf {
    let all: Vec<u64> = TRAINED.iter().chain(&UNSEEN).copied().collect();
    pictures::write_list(root, "Ebay_train.txt", &TRAINED, 0..GALLERY_VIEWS);
    pictures::write_list(root, "Ebay_test.txt", &UNSEEN, 0..GALLERY_VIEWS);
    pictures::write_list(root, "gallery.txt", &all, 0..GALLERY_VIEWS);
    let mut products = String::new();
    for class in all {
        let shape = SHAPES[(class % 6) as usize];
        let product = json!({
            "id": class.to_string(), "name": format!("{shape} no. {class}"), "category": shape, "tags": [],
            "creator": "Ada Example", "license": "CC0",
        });
        writeln!(products, "{product}").expect("into a string");
    }
    fs_err::write(root.join("products.jsonl"), products).expect("write");
    root.to_path_buf()
}

fn index(dfml: &Path, model: &Path, store: &Path, shop: &Path) -> String {
    let mut command = Command::new(dfml);
    command.args(["index", "import"]).args(stores(model, store)).arg("--strict");
    command.arg("--list").arg(shop.join("gallery.txt")).arg("--products").arg(shop.join("products.jsonl"));
    succeed(&mut command)
}

fn serve_and_query(dfml: &Path, model: &Path, store: &Path, shop: &Path) {
    let mut server = Server::start(dfml, model, store, shop);
    dfml_tests::client::install();
    let client = Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
    let get =
        |path: &str| client.get(format!("{}{path}", server.address)).send().expect("the server answers");
    assert_eq!(get("/readyz").status(), 200);
    let info: Value = get("/v1/info").json().expect("JSON");
    assert_eq!(info["model"]["name"], "end-to-end");
    assert_eq!(info["index"]["products"], 12);

    let mut right = 0;
    for class in UNSEEN {
        // A view that is neither in the index nor trained on, of a product that was not trained on either.
        let part = multipart::Part::bytes(pictures::jpeg(class, GALLERY_VIEWS)).file_name("query.jpg");
        let form = multipart::Form::new().part("image", part).text("k", "3");
        let answer =
            client.post(format!("{}/v1/search", server.address)).multipart(form).send().expect("an answer");
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().expect("JSON");
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results.len(), 3, "{answer}");
        right += usize::from(results[0]["product_id"].as_str() == Some(class.to_string().as_str()));
        let picture = get(results[0]["image_url"].as_str().expect("a picture"));
        assert_eq!(picture.status(), 200);
        assert!(
            image::load_from_memory(&picture.bytes().expect("a body")).is_ok(),
            "a picture that can be shown"
        );
    }
    assert!(right >= 3, "{right} of {} unseen products were found first", UNSEEN.len());
    let metrics = get("/metrics").text().expect("text");
    assert!(
        metrics.contains("dfml_http_requests_total{method=\"POST\",route=\"/v1/search\",status=\"200\"} 4"),
        "{metrics}"
    );

    server.terminate();
    let (status, printed) = server.wait();
    assert!(status.success(), "SIGTERM ends the server well, but {status}: {printed}");
    assert!(printed.contains("execution provider: cpu (requested auto:"), "{printed}");
}

/// `dfml serve` on a free port. Killed when dropped.
struct Server {
    process: Child,
    lines: mpsc::Receiver<String>,
    printed: String,
    address: String,
}

impl Server {
    fn start(dfml: &Path, model: &Path, store: &Path, images: &Path) -> Self {
        let mut command = Command::new(dfml);
        command
            .arg("serve")
            .args(stores(model, store))
            .arg("--images")
            .arg(images)
            .args(["--bind", "127.0.0.1:0"]);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("dfml starts");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut server = Self { process, lines, printed: String::new(), address: String::new() };
        let listening = server.wait_for_line("listens on http://");
        server.address = listening.split_whitespace().last().expect("an address").to_owned();
        server.wait_for_line("ready");
        server
    }

    fn wait_for_line(&mut self, wanted: &str) -> String {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => {
                    self.printed += &line;
                    self.printed.push('\n');
                    if line.contains(wanted) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with {wanted:?}: {error}; printed so far: {}", self.printed),
            }
        }
    }

    fn terminate(&self) {
        let sent =
            Command::new("kill").arg("-TERM").arg(self.process.id().to_string()).status().expect("kill");
        assert!(sent.success());
    }

    fn wait(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().expect("a child") {
                return (status, self.printed.clone());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the server did not end within 30 s of SIGTERM");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about a process that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The pretrained weights that set-up fetches.
fn weights() -> PathBuf {
    let path = dfml_models::cache_dir().join("weights/efficientnet-lite0.pth");
    assert!(path.is_file(), "{} is missing; `cargo xtask test` fetches it", path.display());
    path
}

fn stores<'a>(model: &'a Path, store: &'a Path) -> [&'a Path; 4] {
    [as_arg("--model"), model, as_arg("--catalogue"), store]
}

fn as_arg(text: &str) -> &Path {
    Path::new(text)
}

/// Runs a program to its end and returns what it printed; a failure shows both of its streams.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}\n{printed}\n{said}", output.status);
    printed.into_owned()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(path).expect("readable")).expect("JSON")
}

/// A server must not need hundreds of megabytes of a training library, nor come with it by accident.
#[test]
#[cfg(target_os = "linux")]
fn the_server_does_not_link_libtorch() {
    let libraries = succeed(Command::new("ldd").arg(binaries::dfml()));
    assert!(libraries.contains("libc.so"), "ldd lists something: {libraries}");
    for unwanted in ["torch", "c10", "onnxruntime", "cuda"] {
        assert!(!libraries.contains(unwanted), "{unwanted} in {libraries}");
    }
}
