//! A socket for the router, and a graceful end.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use axum_server::Handle;

use super::{AppState, app};

/// A client that has not finished a request's head by then is cut off: it would hold its connection for nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The server could not be run.
#[derive(Debug, thiserror::Error)]
#[error("the server on {address} failed: {source}")]
pub struct ServeError {
    /// The address it listens on.
    pub address: String,
    /// What the system said.
    pub source: std::io::Error,
}

/// Answers requests on `listener` until `stop` completes, then lets requests in flight finish, for at most
/// [`super::HttpOptions::drain_timeout`].
///
/// # Errors
/// [`ServeError`] if the listener cannot be used.
pub async fn serve(
    state: AppState,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let address =
        listener.local_addr().map_or_else(|_| "an unknown address".to_owned(), |address| address.to_string());
    let failed = |source| ServeError { address: address.clone(), source };
    // Tokio refuses sockets that block.
    listener.set_nonblocking(true).map_err(failed)?;
    let handle = Handle::<SocketAddr>::new();
    let draining = tokio::spawn(drain(state.clone(), handle.clone(), stop));
    let mut server =
        axum_server::from_tcp(listener).map_err(failed)?.handle(handle).first_request_timeout(HEAD_TIMEOUT);
    server.http_builder().http1().header_read_timeout(HEAD_TIMEOUT);
    let served = server.serve(app(state).into_make_service()).await;
    draining.abort();
    served.map_err(failed)
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
