//! Qdrant's engine as a process of its own: `tests/qdrant-server`, or a real one where `QDRANT_URL` names it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use dfml_qdrant::QdrantOptions;
use tempfile::TempDir;

use crate::binaries;

/// The test server, with its data in a temporary folder. Killed when dropped.
pub struct Engine {
    folder: TempDir,
    address: SocketAddr,
    process: Option<Child>,
    arguments: Vec<String>,
}

impl Engine {
    /// Starts it on a free port.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts it with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (process, address) = run(folder.path(), "127.0.0.1:0", &arguments);
        Self { folder, address, process: Some(process), arguments }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address for a client.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Kills it as a power cut would, as far as a process can be.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("SIGKILL");
            process.wait().expect("it ends");
        }
    }

    /// Starts it again on the same port, with what it had.
    pub fn start_again(&mut self) {
        self.kill();
        let bind = self.address.to_string();
        self.process = Some(run(self.folder.path(), &bind, &self.arguments).0);
    }

    /// What befalls its next writes: `half`, `after` or `stall`, and how many.
    pub fn fault(&self, what: &str) {
        fs_err::write(self.folder.path().join("fault"), what).expect("the folder is writable");
    }

    /// Whether all faults have been used up.
    pub fn faults_are_over(&self) -> bool {
        !self.folder.path().join("fault").exists()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn run(folder: &Path, bind: &str, arguments: &[String]) -> (Child, SocketAddr) {
    let start = Instant::now();
    loop {
        let mut process = Command::new(binaries::qdrant_server())
            .args(["--bind", bind, "--folder"])
            .arg(folder)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test server starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        if let Some(line) = lines.next() {
            std::thread::spawn(move || lines.for_each(drop));
            let address = line.split_whitespace().last().and_then(|text| text.parse().ok());
            return (process, address.unwrap_or_else(|| panic!("no address in {line:?}")));
        }
        // The port of the one before may not be free at once.
        let _ = process.wait();
        assert!(start.elapsed() < Duration::from_secs(10), "the test server does not start");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Options for a catalogue of this name, with the patience of a test.
pub fn options(url: &str, collection: &str) -> QdrantOptions {
    QdrantOptions {
        url: url.to_owned(),
        collection: collection.to_owned(),
        keyword_fields: vec!["category".into(), "tags".into()],
        number_fields: vec!["width".into()],
        bool_fields: vec!["new".into()],
        batch_size: 64,
        ..QdrantOptions::default()
    }
}

/// The address of a real engine, if there is one to test with.
pub fn real_engine() -> Option<String> {
    std::env::var("QDRANT_URL").ok().filter(|url| !url.is_empty())
}
