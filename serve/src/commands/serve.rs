//! `dfml serve`: the HTTP server.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use dfml_index::{EmbeddedIndex, IndexError, IndexInfo, OpenOptions};
use dfml_models::Manifest;
use dfml_qdrant::QdrantIndex;
use dfml_serve::{
    access::KeyStore,
    engine::Engine,
    http::{self, Active, AppState, Backend, HttpOptions, ModelHost, Tls},
    metrics::Metrics,
    settings::{IndexBackend, Settings},
};
use tokio::sync::oneshot;

use super::{Done, exit, options::EngineArgs};

/// How often an engine that does not answer is tried again, and how often that is said.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);
const CONNECT_TOLD: Duration = Duration::from_secs(15);

/// Answer searches over HTTP, with a web page at /.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml serve --model model --catalogue store --images catalogue
  dfml serve --model model --catalogue store --bind 0.0.0.0:8080 --keys keys.toml
  DFML_INDEX__BACKEND=qdrant dfml serve --model model
  curl -F image=@chair.jpg -F k=5 http://127.0.0.1:8080/v1/search")]
pub(super) struct Args {
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Store directory, as `dfml index import` made it with the same model. Where the setting index.backend is qdrant: a folder of this
    /// server's own, in which jobs are remembered; without one they are forgotten at the end.
    #[arg(long, value_name = "DIR")]
    catalogue: Option<PathBuf>,
    /// Folder that the pictures of the indexed list lie in; without it the page shows no pictures.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one. [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<SocketAddr>,
    /// Address and port for /metrics and the probes alone.
    #[arg(long, value_name = "ADDRESS")]
    metrics_bind: Option<SocketAddr>,
    /// File of API keys; `dfml key` prints entries for it.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Serve other machines without any key.
    #[arg(long)]
    allow_anonymous: bool,
    /// Folder of the lists that POST /v1/import may take.
    #[arg(long, value_name = "DIR")]
    import_dir: Option<PathBuf>,
    /// Folder of the models that POST /v1/models may load.
    #[arg(long, value_name = "DIR")]
    models_dir: Option<PathBuf>,
    /// Keep the pictures that come in with items, below the image folder.
    #[arg(long)]
    keep_uploads: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    lay_over(&args, &mut settings);
    let keys = KeyStore::open(settings.access.key_source())?;
    check_exposure(&settings, &keys)?;
    // First of all, so that an address in use is told before a model is loaded.
    let listener = listen(settings.server.bind)?;
    let scraped = settings.server.metrics_bind.map(listen).transpose()?;
    let metrics = Arc::new(Metrics::new()?);
    let state = AppState::new(http_options(&settings, &args, keys)?, Arc::clone(&metrics))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    if let Some(scraped) = scraped {
        println!("metrics on http://{}/metrics", scraped.local_addr()?);
        let state = state.clone();
        runtime.spawn(async move {
            if let Err(error) = http::serve_metrics(state, scraped).await {
                tracing::error!(%error, "metrics are no longer served");
            }
        });
    }
    let outcome = runtime.block_on(serve(listener, state, args, settings, metrics));
    // A model that is still being loaded, or a run that is stuck, does not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.map(|()| Done::Complete)
}

/// Lays the flags over the settings.
fn lay_over(args: &Args, settings: &mut Settings) {
    let server = &mut settings.server;
    server.bind = args.bind.unwrap_or(server.bind);
    server.metrics_bind = args.metrics_bind.or(server.metrics_bind);
    server.images = args.images.clone().or(server.images.take());
    server.import_dir = args.import_dir.clone().or(server.import_dir.take());
    server.models_dir = args.models_dir.clone().or(server.models_dir.take());
    server.keep_uploads |= args.keep_uploads;
    settings.access.keys_file = args.keys.clone().or(settings.access.keys_file.take());
    settings.access.allow_anonymous |= args.allow_anonymous;
}

/// Other machines are not let in by accident.
fn check_exposure(settings: &Settings, keys: &KeyStore) -> anyhow::Result<()> {
    let bind = settings.server.bind;
    if bind.ip().is_loopback() || keys.required() || settings.access.allow_anonymous {
        return Ok(());
    }
    bail!(
        "{bind} can be reached from other machines, and there are no API keys: name a key file with --keys (`dfml key` makes keys), \
         or say --allow-anonymous if something else keeps strangers out"
    );
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

/// Listens at once, so that the probes answer while the model and the index are loaded.
async fn serve(
    listener: TcpListener,
    state: AppState,
    args: Args,
    settings: Settings,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let tls = tls(&settings)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("dfml {} listens on {scheme}://{}", env!("CARGO_PKG_VERSION"), listener.local_addr()?);
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
    http::serve(state, listener, tls, stopped).await?;
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

/// Loads the model and the index that this very model made: those that were exchanged to last, if they were.
fn load(args: &Args, mut settings: Settings, metrics: Arc<Metrics>) -> anyhow::Result<Backend> {
    match settings.index.backend {
        IndexBackend::Embedded => load_embedded(args, settings, metrics),
        IndexBackend::Qdrant => {
            let engine = warm_engine(args, &args.model, &mut settings)?;
            let index = connect(&settings, engine.manifest())?;
            Ok(Backend::new(engine, settings.batch_options(), metrics, Arc::new(index))?)
        }
    }
}

fn load_embedded(args: &Args, mut settings: Settings, metrics: Arc<Metrics>) -> anyhow::Result<Backend> {
    let catalogue = args.catalogue.as_deref().context("name the store directory with --catalogue")?;
    let given = Active { model: args.model.clone(), store: catalogue.to_owned() };
    let stores = stores(catalogue);
    let exchanged = settings.server.models_dir.as_ref().map(|_| Active::read(&stores)).transpose()?.flatten();
    if let Some(active) = &exchanged {
        println!("model exchanged at run time: {} (see {})", active.model.display(), stores.display());
    }
    let active = exchanged.unwrap_or(given);
    let engine = warm_engine(args, &active.model, &mut settings)?;
    let index = EmbeddedIndex::open(&active.store, open_options(&settings, engine.manifest()))
        .with_context(|| format!("store {}", active.store.display()))?;
    let mut backend = Backend::new(engine, settings.batch_options(), metrics, Arc::new(index))?;
    backend.active = Some(active);
    Ok(backend)
}

/// The model, ready for every size of batch.
fn warm_engine(args: &Args, model: &Path, settings: &mut Settings) -> anyhow::Result<Arc<Engine>> {
    let mut engine = args.engine.load(model, settings)?;
    engine.warm_up(settings.batch_options().max_batch)?;
    Ok(Arc::new(engine))
}

/// Opens the model's collection, as soon as the engine answers.
fn connect(settings: &Settings, manifest: &Manifest) -> anyhow::Result<QdrantIndex> {
    let options = open_options(settings, manifest);
    let mut told: Option<Instant> = None;
    loop {
        match QdrantIndex::open(&settings.index.qdrant, &options) {
            Err(error @ IndexError::Unavailable { .. }) => {
                if told.is_none_or(|when| when.elapsed() > CONNECT_TOLD) {
                    tracing::warn!(%error, "waiting for the engine");
                    told = Some(Instant::now());
                }
                thread::sleep(CONNECT_AGAIN);
            }
            opened => return Ok(opened?),
        }
    }
}

fn open_options(settings: &Settings, manifest: &Manifest) -> OpenOptions {
    OpenOptions {
        tuning: settings.index.tuning.clone(),
        ..OpenOptions::new(manifest.embedding_dim, manifest.fingerprint())
    }
}

/// Where the stores of models that are loaded at run time lie.
fn stores(catalogue: &Path) -> PathBuf {
    catalogue.join("models")
}

fn tls(settings: &Settings) -> anyhow::Result<Option<Tls>> {
    match (&settings.server.tls_certificate, &settings.server.tls_key) {
        (Some(certificate), Some(key)) => {
            Ok(Some(Tls { certificate: certificate.clone(), key: key.clone() }))
        }
        (None, None) => Ok(None),
        _ => bail!("server.tls_certificate and server.tls_key belong together: give both or neither"),
    }
}

fn announce(backend: &Backend) {
    let provider = &backend.provider;
    println!("model {} ({} dimensions)", backend.manifest.name, backend.manifest.embedding_dim);
    println!(
        "execution provider: {} (requested {}: {})",
        provider.active, provider.requested, provider.reason
    );
    println!("runtime: {}, {:.0} images/s", provider.runtime, provider.probe_images_per_second);
    match backend.index.info() {
        Ok(IndexInfo { items, products: Some(products), .. }) => {
            println!("index: {items} pictures of {products} products");
        }
        Ok(info) => println!("index: {} pictures", info.items),
        Err(error) => tracing::warn!(%error, "the index has been opened and does not answer any more"),
    }
}

fn http_options(settings: &Settings, args: &Args, keys: KeyStore) -> anyhow::Result<HttpOptions> {
    let (server, access) = (&settings.server, &settings.access);
    let anonymous = !keys.required();
    let mut engine = settings.clone();
    args.engine.apply(&mut engine);
    Ok(HttpOptions {
        images: server.images.clone(),
        keep_uploads: server.keep_uploads,
        import_dir: server.import_dir.clone(),
        jobs_dir: args.catalogue.as_ref().map(|folder| folder.join("jobs")),
        models: server.models_dir.clone().zip(args.catalogue.as_deref()).map(|(models, catalogue)| {
            ModelHost {
                models,
                stores: stores(catalogue),
                engine: engine.engine_options(),
                batch: settings.batch_options(),
                tuning: settings.index.tuning.clone(),
            }
        }),
        fetch: settings.fetch.options().map_err(|reason| anyhow!("fetch.networks: {reason}"))?,
        keys,
        rate: access.rate(),
        metrics_open: access.metrics_open,
        local_names_only: anonymous && server.bind.ip().is_loopback() && !access.allow_anonymous,
        cors_origins: access.cors_origins.clone(),
        body_bytes_max: server.body_bytes_max,
        bulk_body_bytes_max: server.bulk_body_bytes_max,
        bodies_bytes_max: server.bodies_bytes_max,
        decode_limits: settings.decode_limits(),
        request_timeout: Duration::from_millis(server.request_timeout_ms),
        head_timeout: Duration::from_millis(server.head_timeout_ms),
        drain_timeout: Duration::from_millis(server.drain_timeout_ms),
        cpu_threads: server
            .decode_threads
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)),
        searches_max: settings.batch.queue_capacity,
        writes_max: server.writes_max,
        connections_max: server.connections_max,
        k_default: server.k_default,
        k_max: server.k_max,
        batch_max: server.batch_max,
    })
}
