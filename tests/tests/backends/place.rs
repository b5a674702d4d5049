//! Where an index can be.

use dfml_index::{EmbeddedIndex, IndexError, OpenOptions, VectorIndex};
use dfml_qdrant::{QdrantIndex, QdrantOptions};
use dfml_tests::engine::{self, Engine};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const DIM: usize = 24;
pub(crate) const MODEL: &str = "5eed0000000000000000000000000000";

/// A place for one catalogue. Removed when dropped.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    kind: Kind,
}

enum Kind {
    Embedded(TempDir),
    /// The engine is there for as long as the place.
    Qdrant(Box<(Option<Engine>, QdrantOptions)>),
}

impl Place {
    fn embedded() -> Self {
        Self { name: "embedded", kind: Kind::Embedded(tempfile::tempdir().expect("temporary folder")) }
    }

    /// On the test server, which builds a graph from so many kilobytes on.
    pub(crate) fn test_server(graph_from_kb: usize) -> Self {
        let engine = Engine::start_with(&["--graph-from-kb", &graph_from_kb.to_string()]);
        let options = engine::options(&engine.url(), "shop");
        Self { name: "qdrant on the test server", kind: Kind::Qdrant(Box::new((Some(engine), options))) }
    }

    /// Every place that there is on this machine.
    pub(crate) fn all() -> Vec<Self> {
        let real = engine::real_engine().map(|url| Self {
            name: "qdrant at QDRANT_URL",
            kind: Kind::Qdrant(Box::new((
                None,
                engine::options(&url, &format!("dfml-test-{}", Uuid::now_v7())),
            ))),
        });
        [Self::embedded(), Self::test_server(10_000)].into_iter().chain(real).collect()
    }

    pub(crate) fn open_with(&self, options: &OpenOptions) -> Result<Box<dyn VectorIndex>, IndexError> {
        Ok(match &self.kind {
            Kind::Embedded(folder) => {
                Box::new(EmbeddedIndex::open(folder.path().join("store"), options.clone())?)
            }
            Kind::Qdrant(place) => Box::new(QdrantIndex::open(&place.1, options)?),
        })
    }

    /// The catalogue, made if it is not there.
    pub(crate) fn open(&self) -> Box<dyn VectorIndex> {
        let opened = self.open_with(&OpenOptions { create: true, ..OpenOptions::new(DIM, MODEL) });
        opened.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Qdrant(..))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A real engine keeps nothing of ours.
        if let Kind::Qdrant(place) = &self.kind
            && let (None, options) = &**place
            && let Ok(index) = QdrantIndex::open_current(options)
        {
            let _ = index.remove();
        }
    }
}
