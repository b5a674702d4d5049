//! A headless Chromium, driven through chromedriver. Both are Debian packages that `cargo xtask setup` asks for.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use fantoccini::{Client, ClientBuilder, wd::WebDriverCompatibleCommand};
use serde_json::{Value, json};
use tempfile::TempDir;

const MISSING: &str = "the browser test needs Chromium and chromedriver; run `cargo xtask test`, which sets up everything, or \
                       install the packages `chromium` and `chromium-driver`";
/// Longest wait for the browser to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one window and an empty profile. Ended when dropped.
pub struct Browser {
    /// The window.
    pub client: Client,
    // Dropped in this order: first the processes, then the profile they write to.
    _driver: Driver,
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser.
    ///
    /// # Panics
    /// With a sentence that says what to install if there is no Chromium or no chromedriver.
    pub async fn start() -> Self {
        let chromium = CHROMIUM.iter().find_map(|name| on_path(name)).unwrap_or_else(|| panic!("{MISSING}"));
        let driver = Driver::start();
        let profile = tempfile::tempdir().expect("temporary folder");
        let user_data_dir = format!("--user-data-dir={}", profile.path().display());
        let options = json!({
            "goog:chromeOptions": {
                "binary": chromium,
                "args": [
                    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                    "--disable-background-networking", "--disable-component-update", "--disable-sync",
                    "--disable-dev-shm-usage", "--window-size=1280,900", user_data_dir,
                ],
            },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = options else { unreachable!("written as an object above") };
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://{}", driver.host))
            .await
            .unwrap_or_else(|error| panic!("Chromium does not start: {error}; {MISSING}"));
        Self { client, _driver: driver, _profile: profile }
    }

    /// Sends a command of the DevTools protocol.
    pub async fn devtools(&self, method: &'static str, params: Value) -> Value {
        let command = DevTools(json!({ "cmd": method, "params": params }));
        self.client.issue_cmd(command).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Makes the page believe in a screen of this size and colour scheme (`light` or `dark`).
    pub async fn emulate(&self, width: u32, height: u32, scheme: &str) {
        let screen =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", screen).await;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Runs a script in the page and returns its value.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute(script, arguments).await.unwrap_or_else(|error| panic!("script failed: {error}"))
    }

    /// Waits until a script returns true; fails with `what` after ten seconds.
    pub async fn wait_until(&self, what: &str, script: &str) {
        for _ in 0..100 {
            if self.run(script, Vec::new()).await == Value::Bool(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let text = self.run("return document.body.innerText", Vec::new()).await;
        panic!("timed out waiting for {what}; the page shows {text}");
    }

    /// What the page and the browser wrote to the console since the last call: errors and broken content policies.
    pub async fn console(&self) -> Vec<String> {
        let entries =
            self.client.issue_cmd(BrowserLog).await.unwrap_or_else(|error| panic!("browser log: {error}"));
        let message = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        entries.as_array().map(|entries| entries.iter().map(message).collect()).unwrap_or_default()
    }
}

/// chromedriver on a port of its own choice.
struct Driver {
    process: Child,
    /// Address and port.
    host: String,
}

impl Driver {
    fn start() -> Self {
        let program = on_path("chromedriver").unwrap_or_else(|| panic!("{MISSING}"));
        let mut process = Command::new(program)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver: {error}; {MISSING}"));
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.strip_prefix("ChromeDriver was started successfully on port ")
                .map(|rest| rest.trim_end_matches('.').to_owned())
        });
        // Keep reading, or the driver blocks once the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.unwrap_or_else(|| panic!("chromedriver did not tell its port; {MISSING}"));
        Self { process, host: format!("127.0.0.1:{port}") }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Asked to shut down, it ends the browser first; killed, it would leave it running. There is nothing to do about a
        // driver that has gone already.
        if let Ok(mut connection) = TcpStream::connect(&self.host) {
            let _ = connection.set_read_timeout(Some(SHUTDOWN_TIMEOUT));
            let _ = write!(
                connection,
                "GET /shutdown HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.host
            );
            let _ = connection.read_to_end(&mut Vec::new());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn on_path(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())?;
    Some(found.to_string_lossy().into_owned())
}

/// chromedriver's way of passing on commands of the DevTools protocol.
#[derive(Debug)]
struct DevTools(Value);

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base_url: &url::Url, session_id: Option<&str>) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session_id.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.0.to_string()))
    }
}

/// The browser's console.
#[derive(Debug)]
struct BrowserLog;

impl WebDriverCompatibleCommand for BrowserLog {
    fn endpoint(&self, base_url: &url::Url, session_id: Option<&str>) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/se/log", session_id.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}
