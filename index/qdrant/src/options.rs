//! Where the engine is, and how a collection is set up.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How vectors are kept in memory for searching; the best are compared again with the originals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantisation {
    /// A byte for each value.
    #[default]
    Int8,
    /// As they are.
    None,
}

/// Text that is never shown: not in a log, not in an error, not where settings are printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// Where the engine is, and how a collection is set up. What is said of a collection holds when it is made; one that is there
/// stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QdrantOptions {
    /// Address of the engine's gRPC interface. With `https` the connection is encrypted, and the certificate has to be one that the
    /// system trusts.
    pub url: String,
    /// API key.
    pub api_key: Option<Secret>,
    /// File that holds the API key and nothing else; read at start.
    pub api_key_file: Option<PathBuf>,
    /// Name of the catalogue: an alias of the collection in use. Letters, digits, `_` and `-`.
    pub collection: String,
    /// Shards of a new collection; absent leaves it to the engine.
    pub shards: Option<u32>,
    /// Copies of each shard of a new collection.
    pub replication_factor: u32,
    /// Copies that must have a write before it is acknowledged.
    pub write_consistency_factor: u32,
    /// How the vectors of a new collection are kept in memory.
    pub quantisation: Quantisation,
    /// Candidates that are compared again with the original vectors, for each result that is wanted; at least 1.
    pub oversampling: f64,
    /// Keep the original vectors of a new collection on disk, and only the quantised ones in memory.
    pub vectors_on_disk: bool,
    /// Metadata fields of texts that get an index before anything is stored.
    pub keyword_fields: Vec<String>,
    /// Metadata fields of numbers that get an index.
    pub number_fields: Vec<String>,
    /// Metadata fields of truth values that get an index.
    pub bool_fields: Vec<String>,
    /// Longest time for a connection to be made, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest time for an answer, in milliseconds; what is read is given up after that.
    pub timeout_ms: u64,
    /// How long a write is tried again, in milliseconds.
    pub retry_for_ms: u64,
    /// Items in one request to the engine.
    pub batch_size: usize,
    /// Requests of one write that are under way at a time.
    pub parallelism: usize,
    /// Connections to the engine.
    pub connections: usize,
}

impl Default for QdrantOptions {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:6334".into(),
            api_key: None,
            api_key_file: None,
            collection: "dfml".into(),
            shards: None,
            replication_factor: 1,
            write_consistency_factor: 1,
            quantisation: Quantisation::default(),
            oversampling: 2.0,
            vectors_on_disk: false,
            keyword_fields: vec!["category".into()],
            number_fields: Vec::new(),
            bool_fields: Vec::new(),
            connect_timeout_ms: 2000,
            timeout_ms: 5000,
            retry_for_ms: 10_000,
            batch_size: 256,
            parallelism: 4,
            connections: 4,
        }
    }
}

impl QdrantOptions {
    /// The address and the collection, as messages name them; without what the address may have of a user and password.
    pub fn place(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("http", &self.url));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://{}/{}", host.trim_end_matches('/'), self.collection)
    }

    /// What cannot be meant, as a sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.collection.is_empty() || !self.collection.chars().all(plain) || self.collection.len() > 200 {
            return Err("collection is 1 to 200 letters, digits, _ and -".into());
        }
        if !["http://", "https://"].iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err("url begins with http:// or https://".into());
        }
        for (name, value) in [
            ("shards", self.shards.unwrap_or(1) as usize),
            ("replication_factor", self.replication_factor as usize),
            ("write_consistency_factor", self.write_consistency_factor as usize),
            ("batch_size", self.batch_size),
            ("parallelism", self.parallelism),
            ("connections", self.connections),
        ] {
            if value == 0 {
                return Err(format!("{name} is at least 1"));
            }
        }
        if self.write_consistency_factor > self.replication_factor {
            return Err("write_consistency_factor is at most replication_factor".into());
        }
        if !(self.oversampling >= 1.0 && self.oversampling <= 100.0) {
            return Err("oversampling is from 1 to 100".into());
        }
        Ok(())
    }

    /// The API key, wherever it is.
    pub(crate) fn key(&self) -> Result<Option<Secret>, String> {
        let key = match (&self.api_key, &self.api_key_file) {
            (Some(_), Some(_)) => return Err("give api_key or api_key_file, not both".into()),
            (Some(key), None) => key.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("api_key_file {}: {error}", path.display()))?;
                Secret::new(text.trim())
            }
            (None, None) => return Ok(None),
        };
        // The client's own message would repeat the key.
        if key.reveal().is_empty() || !key.reveal().chars().all(|c| c.is_ascii_graphic()) {
            return Err("the API key is empty or has characters that a key cannot have".into());
        }
        Ok(Some(key))
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.max(1))
    }

    pub(crate) fn retry_for(&self) -> Duration {
        Duration::from_millis(self.retry_for_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let options = QdrantOptions { api_key: Some(Secret::new("hunter2")), ..QdrantOptions::default() };
        let shown = format!("{options:?} {}", serde_json::to_string(&options).expect("serialises"));
        assert!(!shown.contains("hunter2"), "{shown}");
        let broken = QdrantOptions { api_key: Some(Secret::new("hunter\n2")), ..QdrantOptions::default() };
        let error = broken.key().expect_err("no header value");
        assert!(!error.contains("hunter"), "{error}");
        let url = QdrantOptions { url: "https://me:hunter2@host:6334/".into(), ..QdrantOptions::default() };
        assert_eq!(url.place(), "https://host:6334/dfml");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let broken = [
            QdrantOptions { url: "host:6334".into(), ..QdrantOptions::default() },
            QdrantOptions { collection: "a/b".into(), ..QdrantOptions::default() },
            QdrantOptions { batch_size: 0, ..QdrantOptions::default() },
            QdrantOptions { write_consistency_factor: 2, ..QdrantOptions::default() },
            QdrantOptions { oversampling: f64::NAN, ..QdrantOptions::default() },
        ];
        for options in broken {
            assert!(options.check().is_err(), "{options:?}");
        }
        assert_eq!(QdrantOptions::default().check(), Ok(()));
        assert!(serde_json::from_str::<QdrantOptions>(r#"{"shard": 3}"#).is_err());
    }
}
