//! The HTTP server over a [`Shop`], with or without a socket.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use dfml_models::DecodeLimits;
use dfml_serve::{
    engine::BatchOptions,
    http::{self, AppState, Backend, HttpOptions, Tls},
    metrics::Metrics,
};
use tokio::sync::oneshot;

use crate::shop::Shop;

/// Bounds that suit small pictures: 256 KiB bodies, 1 megapixel, 10 s.
pub fn options(shop: &Shop) -> HttpOptions {
    HttpOptions {
        images: Some(shop.pictures()),
        body_bytes_max: 256 << 10,
        decode_limits: DecodeLimits {
            max_bytes: 256 << 10,
            max_pixels: 1_000_000,
            ..DecodeLimits::default()
        },
        bulk_body_bytes_max: 1 << 20,
        request_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(5),
        searches_max: 64,
        k_max: 50,
        batch_max: 20,
        ..HttpOptions::default()
    }
}

/// A server that has not loaded its model yet.
pub fn loading(options: HttpOptions) -> (AppState, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().expect("metric names are unique"));
    (AppState::new(options, Arc::clone(&metrics)).expect("the image folder exists"), metrics)
}

/// A server that is ready.
pub fn ready(shop: &Shop, options: HttpOptions) -> AppState {
    let (state, metrics) = loading(options);
    state.install(backend(shop, metrics));
    state
}

/// The shop's model and index.
pub fn backend(shop: &Shop, metrics: Arc<Metrics>) -> Backend {
    let engine = Arc::new(shop.engine());
    let index = Arc::new(shop.index(&engine));
    Backend::new(engine, BatchOptions::default(), metrics, index).expect("threads")
}

/// A server on a free port, in a thread of its own. Stopped when dropped.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts it.
    pub fn start(state: AppState) -> Self {
        Self::start_with(state, None)
    }

    /// Starts it, with TLS if a certificate is given.
    pub fn start_with(state: AppState, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("threads");
            let stopped = async {
                let _ = stopped.await;
            };
            runtime.block_on(http::serve(state, listener, tls, stopped)).expect("serves until it is stopped");
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// An address on this server; `path` starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Stops it and waits until it has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the server ends without a panic");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
