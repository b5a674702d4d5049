//! Qdrant's engine behind Qdrant's wire protocol, for the tests of dfml's distributed backend.
//!
//! It answers the calls that dfml makes as a server with one shard does, and refuses all others. What it has acknowledged
//! is on disk: it can be killed and started again. It is no server for anything else: there is one shard, no replica, no
//! authentication but a key to compare with, and the graph is built when writers pause.

mod collections;
mod convert;
mod faults;
mod filters;
mod groups;
mod points;
mod service;
mod shard;
mod store;

use std::{io::Write, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use qdrant_client::qdrant::{
    collections_server::CollectionsServer, points_server::PointsServer, qdrant_server::QdrantServer,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Server};

use crate::{service::Service, store::Store};

/// Largest request, as in the engine's own server.
const REQUEST_BYTES_MAX: usize = 32 << 20;
/// How often it is looked whether a graph should be built.
const OPTIMISE_EVERY: Duration = Duration::from_millis(300);

/// Qdrant's engine behind Qdrant's wire protocol, for tests.
#[derive(Parser)]
struct Args {
    /// Folder of the collections.
    #[arg(long)]
    folder: PathBuf,
    /// Address and port to listen on; port 0 takes a free one, and the address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// Size of a collection's vectors from which on a graph is built, in kilobytes.
    #[arg(long, default_value_t = 10_000)]
    graph_from_kb: usize,
    /// Only callers with this API key are answered.
    #[arg(long)]
    api_key: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let listener = tokio::net::TcpListener::bind(args.bind).await.context("cannot listen")?;
    let store = Arc::new(Store::open(&args.folder, args.graph_from_kb)?);
    println!("listening on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let optimised = Arc::clone(&store);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(OPTIMISE_EVERY);
            optimised.optimise();
        }
    });
    let guard = move |request: Request<()>| match &args.api_key {
        Some(key)
            if request.metadata().get("api-key").is_none_or(|given| given.as_bytes() != key.as_bytes()) =>
        {
            Err(Status::unauthenticated("Must provide an API key"))
        }
        _ => Ok(request),
    };
    let service = Service::new(store);
    let points = PointsServer::new(service.clone())
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    Server::builder()
        .add_service(InterceptedService::new(QdrantServer::new(service.clone()), guard.clone()))
        .add_service(InterceptedService::new(CollectionsServer::new(service), guard.clone()))
        .add_service(InterceptedService::new(points, guard))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}
