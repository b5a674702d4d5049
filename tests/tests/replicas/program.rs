//! The programs of these tests.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use dfml_tests::{balancer, binaries, client, shop::Shop};

/// A settings file for this engine.
pub(crate) fn settings(folder: &Path, engine: &str) -> PathBuf {
    let path = folder.join("serve.toml");
    let text = format!(
        "[index]\nbackend = \"qdrant\"\n[index.qdrant]\nurl = \"{engine}\"\ncollection = \"shop\"\n\
         timeout_ms = 4000\nretry_for_ms = 1500\nbatch_size = 256\n"
    );
    fs_err::write(&path, text).expect("the folder is writable");
    path
}

/// `dfml` with these settings.
pub(crate) fn dfml(settings: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::dfml());
    command.arg("--config").arg(settings).args(arguments);
    command
}

/// Runs it to its end.
pub(crate) fn run(mut command: Command) -> Output {
    command.output().expect("dfml starts")
}

/// What it printed, after it ended well.
pub(crate) fn printed(command: Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A program that serves, killed when dropped.
pub(crate) struct Serving {
    process: Child,
    /// With `http://`.
    pub(crate) address: String,
}

impl Serving {
    /// `dfml serve` without a folder of its own.
    pub(crate) fn dfml(settings: &Path, shop: &Shop) -> Self {
        let mut command = dfml(settings, &["serve", "--bind", "127.0.0.1:0", "--threads", "1", "--model"]);
        let mut process = command
            .arg(shop.model())
            .arg("--import-dir")
            .arg(shop.pictures())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dfml starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listens on")).expect("it says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: line.split_whitespace().last().expect("an address").to_owned() }
    }

    /// nginx before these servers: a server that does not answer is left out for a second, and its request sent to another.
    pub(crate) fn nginx(folder: &Path, servers: &[&Self]) -> Self {
        // Free when it was asked for; nginx takes it at once.
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let upstream: String = servers
            .iter()
            .map(|server| {
                format!(
                    "server {} max_fails=1 fail_timeout=1s;\n",
                    server.address.trim_start_matches("http://")
                )
            })
            .collect();
        let at = folder.display();
        let text = format!(
            "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n access_log off;\n\
             client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;\n\
             uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n\
             upstream dfml {{ {upstream} }}\n\
             server {{ listen {address};\n location / {{ proxy_pass http://dfml; proxy_set_header Host $host;\n\
             proxy_connect_timeout 1s; proxy_next_upstream error timeout http_503 non_idempotent; proxy_next_upstream_tries 2; }} }}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        fs_err::write(&file, text).expect("the folder is writable");
        let process = Command::new(balancer::program())
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts");
        Self { process, address: format!("http://{address}") }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    pub(crate) async fn wait_until_ready(&self) {
        self.wait_for(200, Duration::from_secs(30)).await;
    }

    /// Waits until `/readyz` answers with this status.
    pub(crate) async fn wait_for(&self, status: u16, patience: Duration) {
        let start = Instant::now();
        loop {
            if let Ok(answer) = client::fetch(self.url("/readyz")).await
                && answer.status().as_u16() == status
            {
                return;
            }
            assert!(start.elapsed() < patience, "{} does not answer {status}", self.address);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("SIGKILL");
        self.process.wait().expect("it ends");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
