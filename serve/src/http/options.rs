//! Bounds and places of the HTTP server.

use std::{path::PathBuf, time::Duration};

use dfml_models::DecodeLimits;

use super::{fetch::FetchOptions, models::ModelHost};
use crate::access::{KeyStore, Rate};

/// Bounds and places of the HTTP server. The built-in values are those of [`crate::settings::Settings`].
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Folder that holds the catalogue's pictures; `None` shows none.
    pub images: Option<PathBuf>,
    /// Keep the pictures that come in with items, below the image folder.
    pub keep_uploads: bool,
    /// Folder of the lists that may be imported; `None` switches importing off.
    pub import_dir: Option<PathBuf>,
    /// Folder in which jobs are remembered; `None` forgets them at the end.
    pub jobs_dir: Option<PathBuf>,
    /// Where other models lie; `None` switches exchanging the model off.
    pub models: Option<ModelHost>,
    /// Which pictures may be fetched by address.
    pub fetch: FetchOptions,
    /// The API keys; without any, everybody may do everything.
    pub keys: KeyStore,
    /// How often each key, or each address without keys, may ask; `None` does not limit.
    pub rate: Option<Rate>,
    /// Whether `/metrics` is open where keys are needed.
    pub metrics_open: bool,
    /// Whether only requests to local host names are answered, which keeps other sites' scripts out of a server without keys.
    pub local_names_only: bool,
    /// Origins whose scripts may use the API, such as `https://shop.example.com`.
    pub cors_origins: Vec<String>,
    /// Largest body of a search, in bytes.
    pub body_bytes_max: usize,
    /// Largest body of a request with many pictures, in bytes.
    pub bulk_body_bytes_max: usize,
    /// Most memory for what all requests together bring, in bytes: bodies, the values of JSON, pictures fetched for them.
    pub bodies_bytes_max: usize,
    /// Bounds on images, checked before memory is given to them.
    pub decode_limits: DecodeLimits,
    /// Longest time for a request, reading its body included.
    pub request_timeout: Duration,
    /// Longest time for the head of a request.
    pub head_timeout: Duration,
    /// How long a stopping server waits for requests in flight.
    pub drain_timeout: Duration,
    /// Threads that decode images and search the index; at least 1.
    pub cpu_threads: usize,
    /// Most searches worked on at a time; one more is answered 429.
    pub searches_max: usize,
    /// Most changes to the catalogue worked on at a time; one more is answered 429.
    pub writes_max: usize,
    /// Most connections at a time; one more is closed at once.
    pub connections_max: usize,
    /// Results per search where the request does not say.
    pub k_default: usize,
    /// Most results that a request may ask for, `offset` included.
    pub k_max: usize,
    /// Most parts of a request with many: searches, items, pictures.
    pub batch_max: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            images: None,
            keep_uploads: false,
            import_dir: None,
            jobs_dir: None,
            models: None,
            fetch: FetchOptions::default(),
            keys: KeyStore::default(),
            rate: None,
            metrics_open: true,
            local_names_only: false,
            cors_origins: Vec::new(),
            body_bytes_max: 20 << 20,
            bulk_body_bytes_max: 64 << 20,
            bodies_bytes_max: 512 << 20,
            decode_limits: DecodeLimits::default(),
            request_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(20),
            cpu_threads: 2,
            searches_max: 128,
            writes_max: 16,
            connections_max: 1024,
            k_default: 12,
            k_max: 200,
            batch_max: 100,
        }
    }
}
