//! Settings in layers: built in, then a TOML file, then the environment, then flags. A later layer wins, and a key that
//! does not exist is an error in every layer, so that a misspelt setting is never silently ignored.
//!
//! In the environment a setting is `DFML_SECTION__KEY`, e.g. `DFML_SERVER__BIND=0.0.0.0:8080`. configs/serve.toml lists
//! every key with its built-in value.

mod load;

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use dfml_index::Tuning;
use dfml_models::DecodeLimits;
use dfml_qdrant::QdrantOptions;
use serde::{Deserialize, Serialize};

pub use load::SettingsError;

use crate::{
    access::{KeySource, Rate},
    engine::{BatchOptions, EngineOptions, Provider},
    http::{FetchOptions, HttpOptions},
    traces::TraceSettings,
};

/// All settings of the server and the bulk commands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The model runtime.
    pub engine: EngineSettings,
    /// Batching of single requests.
    pub batch: BatchSettings,
    /// The HTTP server.
    pub server: ServerSettings,
    /// Who may do what.
    pub access: AccessSettings,
    /// Pictures by address.
    pub fetch: FetchSettings,
    /// Bounds on images.
    pub limits: LimitSettings,
    /// Where the catalogue is, how it is searched and when it rebuilds.
    pub index: IndexSettings,
    /// Where traces of requests go.
    pub traces: TraceSettings,
}

/// `[index]`: where the catalogue is and how it is searched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexSettings {
    /// What holds the vectors.
    pub backend: IndexBackend,
    /// `[index.qdrant]`: where the engine is and how a collection is made, for the backend `qdrant`.
    pub qdrant: QdrantOptions,
    /// How an embedded index searches and when it rebuilds. `links`, `build_effort` and `effort` hold for both backends.
    #[serde(flatten)]
    pub tuning: Tuning,
}

/// What holds the vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexBackend {
    /// A folder, which one process has to itself.
    #[default]
    Embedded,
    /// Qdrant, which any number of processes share.
    Qdrant,
}

/// `[engine]`: where and with how many threads the network is computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    /// `auto`, `cpu`, `cuda`, `tensorrt` or `openvino`.
    pub provider: Provider,
    /// Refuse to start without a GPU.
    pub require_gpu: bool,
    /// Threads in all; absent means every core.
    pub threads: Option<usize>,
    /// Sessions side by side; absent means what is measured to be best for the server or for bulk work.
    pub sessions: Option<usize>,
    /// The ONNX Runtime library; absent looks in the usual places.
    pub onnxruntime: Option<PathBuf>,
}

/// `[batch]`: how single requests are put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchSettings {
    /// Most images in one run.
    pub max_batch: usize,
    /// How long the first request of a batch waits for company, in microseconds.
    pub max_wait_us: u64,
    /// Most requests that wait for the model; one more is answered 429.
    pub queue_capacity: usize,
}

impl Default for BatchSettings {
    fn default() -> Self {
        let BatchOptions { max_batch, max_wait, queue_capacity } = BatchOptions::default();
        Self {
            max_batch,
            max_wait_us: u64::try_from(max_wait.as_micros()).unwrap_or(u64::MAX),
            queue_capacity,
        }
    }
}

/// `[server]`: the HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port to listen on.
    pub bind: SocketAddr,
    /// Address and port of `/metrics` and the probes alone; absent serves them with everything else.
    pub metrics_bind: Option<SocketAddr>,
    /// Folder that holds the catalogue's images, for the web page; absent shows none.
    pub images: Option<PathBuf>,
    /// Keep the pictures that come in with items, below the image folder.
    pub keep_uploads: bool,
    /// Folder of the lists that may be imported; absent switches importing off.
    pub import_dir: Option<PathBuf>,
    /// Folder of the models that may be loaded; absent switches exchanging the model off.
    pub models_dir: Option<PathBuf>,
    /// TLS certificate (PEM); absent serves plain HTTP.
    pub tls_certificate: Option<PathBuf>,
    /// Key of the certificate (PEM).
    pub tls_key: Option<PathBuf>,
    /// Largest body of a search, in bytes.
    pub body_bytes_max: usize,
    /// Largest body of a request with many pictures, in bytes.
    pub bulk_body_bytes_max: usize,
    /// Most memory for what all requests together bring, in bytes: bodies, the values of JSON, pictures fetched for them.
    pub bodies_bytes_max: usize,
    /// Most connections at a time.
    pub connections_max: usize,
    /// Most changes to the catalogue worked on at a time.
    pub writes_max: usize,
    /// Longest time for the head of a request, in milliseconds.
    pub head_timeout_ms: u64,
    /// Longest time for a request, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long a stopping server waits for requests in flight, in milliseconds.
    pub drain_timeout_ms: u64,
    /// Threads that decode and resize images; absent means every core.
    pub decode_threads: Option<usize>,
    /// Results per search where the request does not say.
    pub k_default: usize,
    /// Most results that a request may ask for.
    pub k_max: usize,
    /// Most parts of a request with many: searches, items, pictures.
    pub batch_max: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        let options = HttpOptions::default();
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            metrics_bind: None,
            images: None,
            keep_uploads: options.keep_uploads,
            import_dir: None,
            models_dir: None,
            tls_certificate: None,
            tls_key: None,
            body_bytes_max: options.body_bytes_max,
            bulk_body_bytes_max: options.bulk_body_bytes_max,
            bodies_bytes_max: options.bodies_bytes_max,
            connections_max: options.connections_max,
            writes_max: options.writes_max,
            head_timeout_ms: milliseconds(options.head_timeout),
            request_timeout_ms: milliseconds(options.request_timeout),
            drain_timeout_ms: milliseconds(options.drain_timeout),
            decode_threads: None,
            k_default: options.k_default,
            k_max: options.k_max,
            batch_max: options.batch_max,
        }
    }
}

/// `[access]`: who may do what, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessSettings {
    /// The key file; read anew when it changes.
    pub keys_file: Option<PathBuf>,
    /// Keys as `name:scope:sha256:digest`, separated by commas; meant for the environment.
    pub keys: Option<String>,
    /// Serve other machines without any key.
    pub allow_anonymous: bool,
    /// Whether `/metrics` is open where keys are needed.
    pub metrics_open: bool,
    /// Origins whose scripts may use the API.
    pub cors_origins: Vec<String>,
    /// Requests per second for each key, or for each address without keys; absent does not limit.
    pub rate_per_second: Option<NonZeroU32>,
    /// Requests that may come at once after a pause; absent is twice the rate.
    pub rate_burst: Option<NonZeroU32>,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            keys_file: None,
            keys: None,
            allow_anonymous: false,
            metrics_open: HttpOptions::default().metrics_open,
            cors_origins: Vec::new(),
            rate_per_second: None,
            rate_burst: None,
        }
    }
}

impl AccessSettings {
    /// Where the API keys come from.
    pub fn key_source(&self) -> KeySource {
        KeySource { file: self.keys_file.clone(), variable: self.keys.clone() }
    }

    /// How often each caller may ask.
    pub fn rate(&self) -> Option<Rate> {
        let per_second = self.rate_per_second?;
        Some(Rate {
            per_second,
            burst: self.rate_burst.unwrap_or_else(|| per_second.saturating_add(per_second.get())),
        })
    }
}

/// `[fetch]`: pictures by address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchSettings {
    /// Hosts that pictures may be fetched from; none switches fetching off.
    pub hosts: Vec<String>,
    /// Address blocks that are allowed although they are not public.
    pub networks: Vec<String>,
    /// Longest time for a picture, in milliseconds.
    pub timeout_ms: u64,
    /// Most redirects that are followed.
    pub redirects_max: usize,
}

impl Default for FetchSettings {
    fn default() -> Self {
        let FetchOptions { timeout, redirects_max, .. } = FetchOptions::default();
        Self { hosts: Vec::new(), networks: Vec::new(), timeout_ms: milliseconds(timeout), redirects_max }
    }
}

impl FetchSettings {
    /// What may be fetched.
    ///
    /// # Errors
    /// A sentence that names the address block that is none.
    pub fn options(&self) -> Result<FetchOptions, String> {
        Ok(FetchOptions {
            hosts: self.hosts.clone(),
            networks: self.networks.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            timeout: Duration::from_millis(self.timeout_ms),
            redirects_max: self.redirects_max,
        })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `[limits]`: what is refused before memory is given to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Largest image file, in bytes.
    pub image_bytes_max: usize,
    /// Most pixels (width x height) in an image.
    pub image_pixels_max: u64,
    /// Most frames in an animation.
    pub image_frames_max: u32,
    /// Most bytes of memory that decoding an image may take.
    pub image_memory_max: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        let DecodeLimits { max_bytes, max_pixels, max_frames, max_memory } = DecodeLimits::default();
        Self {
            image_bytes_max: max_bytes,
            image_pixels_max: max_pixels,
            image_frames_max: max_frames,
            image_memory_max: max_memory,
        }
    }
}

impl Settings {
    /// The engine's options for a server.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            provider: self.engine.provider,
            require_gpu: self.engine.require_gpu,
            threads: self.engine.threads,
            sessions: self.engine.sessions,
            throughput: false,
            library: self.engine.onnxruntime.clone(),
            decode_limits: self.decode_limits(),
            skip_self_test: false,
        }
    }

    /// The bounds on images that are decoded.
    pub fn decode_limits(&self) -> DecodeLimits {
        let LimitSettings { image_bytes_max, image_pixels_max, image_frames_max, image_memory_max } =
            self.limits;
        DecodeLimits {
            max_bytes: image_bytes_max,
            max_pixels: image_pixels_max,
            max_frames: image_frames_max,
            max_memory: image_memory_max,
        }
    }

    /// The bounds of the batcher.
    pub fn batch_options(&self) -> BatchOptions {
        BatchOptions {
            max_batch: self.batch.max_batch,
            max_wait: Duration::from_micros(self.batch.max_wait_us),
            queue_capacity: self.batch.queue_capacity,
        }
    }
}
