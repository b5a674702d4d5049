//! A socket for the router, with TLS if it is given a certificate, and a graceful end.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use axum_server::{
    Handle, Server,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};

use super::{AppState, app, connections::Bounded, router::metrics_app};

/// Most headers of a request; one more is answered 431.
const HEADERS_MAX: usize = 64;
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections to the port of the metrics.
const METRICS_CONNECTIONS_MAX: usize = 32;

/// The certificate and key that a server shows, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The server could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket cannot be used.
    #[error("the server on {address} failed: {source}")]
    Socket {
        /// The address it listens on.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS certificate {} with key {}: {source}", certificate.display(), key.display())]
    Certificate {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        source: std::io::Error,
    },
}

/// Answers requests on `listener` until `stop` completes, then lets requests in flight finish, for at most
/// [`super::HttpOptions::drain_timeout`].
///
/// # Errors
/// [`ServeError`] if the listener or the certificate cannot be used.
pub async fn serve(
    state: AppState,
    listener: TcpListener,
    tls: Option<Tls>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let handle = Handle::<SocketAddr>::new();
    let following = tokio::spawn(state.options().keys.clone().follow());
    let draining = tokio::spawn(drain(state.clone(), handle.clone(), stop));
    let bounded = Bounded::new(state.options().connections_max, idle_limit(&state));
    let failed = failure(&listener);
    let server = server(&state, listener).map_err(&failed)?.handle(handle);
    let routes = app(state).into_make_service_with_connect_info::<SocketAddr>();
    let served = match tls {
        None => server.acceptor(bounded).serve(routes).await,
        Some(tls) => {
            let config = certificate(tls).await?;
            let acceptor = RustlsAcceptor::new(config).handshake_timeout(HANDSHAKE_TIMEOUT).acceptor(bounded);
            server.acceptor(acceptor).serve(routes).await
        }
    };
    draining.abort();
    following.abort();
    served.map_err(failed)
}

/// Answers scrapes and probes on a port of their own until the future is dropped.
///
/// # Errors
/// [`ServeError`] if the listener cannot be used.
pub async fn serve_metrics(state: AppState, listener: TcpListener) -> Result<(), ServeError> {
    let failed = failure(&listener);
    let bounded = Bounded::new(METRICS_CONNECTIONS_MAX, idle_limit(&state));
    let server = server(&state, listener).map_err(&failed)?.acceptor(bounded);
    server.serve(metrics_app(state).into_make_service()).await.map_err(failed)
}

async fn certificate(tls: Tls) -> Result<RustlsConfig, ServeError> {
    // One provider for the process; that another part of it has set one already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    RustlsConfig::from_pem_file(&tls.certificate, &tls.key).await.map_err(|source| ServeError::Certificate {
        certificate: tls.certificate,
        key: tls.key,
        source,
    })
}

/// A server with its bounds on heads and connections.
fn server(state: &AppState, listener: TcpListener) -> std::io::Result<Server<SocketAddr>> {
    // Tokio refuses sockets that block.
    listener.set_nonblocking(true)?;
    let head_timeout = state.options().head_timeout;
    // A client that has not finished a request's head by then holds its connection for nothing.
    let mut server = axum_server::from_tcp(listener)?.first_request_timeout(head_timeout);
    let builder = server.http_builder();
    builder.http1().header_read_timeout(head_timeout).max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    builder.http2().max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEAD_BYTES_MAX as u32);
    Ok(server)
}

/// A connection on which nothing has moved for so long is not waiting for an answer: that would have come.
fn idle_limit(state: &AppState) -> Duration {
    state.options().request_timeout + state.options().head_timeout
}

fn failure(listener: &TcpListener) -> impl Fn(std::io::Error) -> ServeError + use<> {
    let address =
        listener.local_addr().map_or_else(|_| "an unknown address".to_owned(), |address| address.to_string());
    move |source| ServeError::Socket { address: address.clone(), source }
}

async fn drain(state: AppState, handle: Handle<SocketAddr>, stop: impl Future<Output = ()>) {
    stop.await;
    let (limit, open) = (state.options().drain_timeout, handle.connection_count());
    tracing::info!(
        open_connections = open,
        limit_seconds = limit.as_secs_f64(),
        "stopping: letting requests finish"
    );
    state.start_draining();
    handle.graceful_shutdown(Some(limit));
}
