//! nginx with the configuration of docker/compose.cluster.yaml, in front of servers on this machine.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::binaries::workspace;

/// The configuration, as it is shipped.
pub fn configuration() -> String {
    fs_err::read_to_string(workspace().join("docker/cluster/nginx.conf")).expect("nginx.conf")
}

/// nginx, on a free port. Killed when dropped.
pub struct Balancer {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Balancer {
    /// Starts it in front of two servers.
    pub fn start(servers: [SocketAddr; 2]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        // The port is free again when this line has ended.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let path = write(folder.path(), &configuration(), servers, port);
        let process = command(&path)
            // Workers of another user could not write into the folder; only root is asked.
            .args(["-g", "daemon off; user root;"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "nginx does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, port, _folder: folder }
    }

    /// An address on it; `path` starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // SIGTERM, which it passes on to its workers.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// What nginx has to say against a configuration; nothing if it is well.
pub fn objections(configuration: &str) -> Option<String> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let path = write(folder.path(), configuration, [nobody; 2], 9);
    let output = command(&path).arg("-t").output().expect("nginx starts");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Puts addresses of this machine in the place of those of the containers.
fn write(folder: &Path, configuration: &str, servers: [SocketAddr; 2], port: u16) -> PathBuf {
    let mut text = configuration.to_owned();
    let own = folder.to_str().expect("UTF-8");
    for (from, to) in [
        ("dfml-1:8080", servers[0].to_string()),
        ("dfml-2:8080", servers[1].to_string()),
        ("listen 8080", format!("listen 127.0.0.1:{port}")),
        ("worker_processes auto", "worker_processes 1".to_owned()),
        ("/tmp/", format!("{own}/")),
    ] {
        assert!(text.contains(from), "{from} is not in the configuration");
        text = text.replace(from, &to);
    }
    let path = folder.join("nginx.conf");
    fs_err::write(&path, text).expect("write");
    path
}

fn command(configuration: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("-e").arg("stderr").arg("-c").arg(configuration);
    command
}

/// The system's nginx, or the one of `cargo xtask setup --with nginx`.
pub fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).map(|folder| folder.join("nginx")).collect();
    places.push("/usr/sbin/nginx".into());
    places.push(dfml_models::cache_dir().join("nginx/nginx"));
    let found = places.into_iter().find(|place| place.is_file());
    found.unwrap_or_else(|| panic!("nginx is missing; `cargo xtask test` fetches it"))
}
