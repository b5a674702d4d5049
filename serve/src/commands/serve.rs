//! `dfml serve`: the HTTP server.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use dfml_index::{EmbeddedIndex, OpenOptions};
use dfml_serve::{
    engine::Batcher,
    http::{self, AppState, Backend, HttpOptions},
    metrics::Metrics,
    settings::Settings,
};
use tokio::sync::oneshot;

use super::{Done, exit, options::EngineArgs};

/// Answer searches over HTTP, with a web page at /.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml serve --model model --catalogue store --images catalogue
  curl -F image=@chair.jpg -F k=5 http://127.0.0.1:8080/v1/search")]
pub(super) struct Args {
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Store directory, as `dfml index import` made it with the same model.
    #[arg(long, value_name = "DIR")]
    catalogue: PathBuf,
    /// Folder that the pictures of the indexed list lie in; without it the page shows no pictures.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one. [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<SocketAddr>,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    settings.server.bind = args.bind.unwrap_or(settings.server.bind);
    settings.server.images = args.images.clone().or(settings.server.images.take());
    // First of all, so that an address in use is told before a model is loaded.
    let address = settings.server.bind;
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let metrics = Arc::new(Metrics::new()?);
    let state = AppState::new(http_options(&settings), Arc::clone(&metrics))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let outcome = runtime.block_on(serve(listener, state, args, settings, metrics));
    // A model that is still being loaded, or a run that is stuck, does not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.map(|()| Done::Complete)
}

/// Listens at once, so that the probes answer while the model and the index are loaded.
async fn serve(
    listener: TcpListener,
    state: AppState,
    args: Args,
    settings: Settings,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    println!("dfml {} listens on http://{}", env!("CARGO_PKG_VERSION"), listener.local_addr()?);
    let (failed, failure) = oneshot::channel();
    let loading = tokio::task::spawn_blocking({
        let state = state.clone();
        move || match load(&args, settings, metrics) {
            Ok(backend) => {
                announce(&backend);
                state.install(backend);
                println!("ready");
            }
            Err(error) => {
                // An error here means that the server is stopping anyway.
                let _ = failed.send(error);
            }
        }
    });
    let (told, stop) = oneshot::channel();
    let watching = tokio::spawn(async move {
        let outcome = tokio::select! {
            signal = stop_signal() => signal,
            Ok(error) = failure => Err(error),
        };
        let _ = told.send(());
        outcome
    });
    let stopped = async {
        // A sender that is gone is a reason to stop as well.
        let _ = stop.await;
    };
    http::serve(state, listener, stopped).await?;
    drop(loading);
    watching.await.context("the signal handler failed")?
}

/// Waits for SIGTERM or SIGINT. The next one ends the process at once.
async fn stop_signal() -> anyhow::Result<()> {
    wait_for_signal().await?;
    tokio::spawn(async {
        if wait_for_signal().await.is_ok() {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
    });
    Ok(())
}

#[cfg(unix)]
async fn wait_for_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {},
        _ = interrupt.recv() => {},
    }
    Ok(())
}

#[cfg(not(unix))]
async fn wait_for_signal() -> anyhow::Result<()> {
    Ok(tokio::signal::ctrl_c().await?)
}

/// Loads the model and the index that this very model made.
fn load(args: &Args, mut settings: Settings, metrics: Arc<Metrics>) -> anyhow::Result<Backend> {
    let engine = Arc::new(args.engine.load(&args.model, &mut settings)?);
    let manifest = engine.manifest().clone();
    let options = OpenOptions::new(manifest.embedding_dim, manifest.fingerprint());
    let index = EmbeddedIndex::open(&args.catalogue, options)
        .with_context(|| format!("store {}", args.catalogue.display()))?;
    Ok(Backend {
        manifest,
        provider: engine.provider().clone(),
        batcher: Batcher::start(Arc::clone(&engine), settings.batch_options(), metrics)?,
        index: Arc::new(index),
    })
}

fn announce(backend: &Backend) {
    let provider = &backend.provider;
    println!("model {} ({} dimensions)", backend.manifest.name, backend.manifest.embedding_dim);
    println!(
        "execution provider: {} (requested {}: {})",
        provider.active, provider.requested, provider.reason
    );
    println!("runtime: {}, {:.0} images/s", provider.runtime, provider.probe_images_per_second);
    let info = backend.index.info();
    println!("index: {} pictures of {} products", info.items, info.products);
}

fn http_options(settings: &Settings) -> HttpOptions {
    let server = &settings.server;
    HttpOptions {
        images: server.images.clone(),
        body_bytes_max: server.body_bytes_max,
        decode_limits: settings.decode_limits(),
        request_timeout: Duration::from_millis(server.request_timeout_ms),
        drain_timeout: Duration::from_millis(server.drain_timeout_ms),
        cpu_threads: server
            .decode_threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        searches_max: settings.batch.queue_capacity,
        k_default: server.k_default,
        k_max: server.k_max,
    }
}
