//! `/v1/models`: exchanging the model while the server answers.
//!
//! The next model is loaded beside the one that serves, its catalogue is made out of the same pictures in a store of its own, and a list
//! of queries that nobody has trained on decides whether it is good enough. Then model and catalogue change places at once:
//! a query meets either the old two or the new two, never one of each. The old ones are kept for going back.

mod exchange;
mod recall;
mod routes;
mod transfer;

use std::{
    io,
    path::{Path, PathBuf},
};

use dfml_index::Tuning;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AppState, durable};
use crate::engine::{BatchOptions, EngineOptions};

pub(super) use routes::{__path_list_models, __path_load_model, __path_roll_back};
pub(super) use routes::{list_models, load_model, roll_back};

/// Why an exchange comes to nothing that could not note every change.
const TOO_MANY_CHANGES: &str =
    "more items have changed meanwhile than the server remembers; try again when less is written";

/// Where models and their catalogues lie, and how a model is run.
#[derive(Clone, Debug)]
pub struct ModelHost {
    /// Folder of the model directories that may be loaded.
    pub models: PathBuf,
    /// Folder of the stores that are made for them.
    pub stores: PathBuf,
    /// How a model is run.
    pub engine: EngineOptions,
    /// How its requests are batched.
    pub batch: BatchOptions,
    /// How its index searches.
    pub tuning: Tuning,
}

/// Which model is to take over, and on what condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelSpec {
    /// Name of its directory in the server's folder of models.
    #[schema(min_length = 1, examples("shop-2026-11"))]
    pub(super) model: String,
    /// List in the import folder of pictures that the model was not trained on: their products have to be found.
    #[schema(min_length = 1)]
    pub(super) queries: Option<String>,
    /// Least share of the queries whose product is found first; if not given, it must not be lower than the present model's.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub(super) min_recall_at_1: Option<f64>,
    /// Take over even if items have no picture to embed again, those that are stored meanwhile included; they are lost, and counted.
    #[serde(default)]
    pub(super) allow_missing: bool,
    /// Most pictures per second, so that searches keep their pace; no limit if not given.
    #[schema(exclusive_minimum = 0.0)]
    pub(super) images_per_second: Option<f64>,
    /// Go back to the model before, rather than load one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(ignore)]
    pub(super) back: bool,
}

/// Which model and store serve, written beside the stores whenever that changes and read at the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Active {
    /// The model directory.
    pub model: PathBuf,
    /// The store directory.
    pub store: PathBuf,
}

impl Active {
    /// Name of the file in the folder of the stores.
    const FILE: &'static str = "active.json";

    /// Reads which model serves; `None` if it was never exchanged.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(stores: &Path) -> io::Result<Option<Self>> {
        match fs_err::read(stores.join(Self::FILE)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, stores: &Path) -> io::Result<()> {
        durable::write(&stores.join(Self::FILE), &serde_json::to_vec_pretty(self)?)
    }
}

/// Why there is no model to go back to.
fn no_way_back(state: &AppState) -> &'static str {
    if state.gate().has_overflowed() {
        "more items have changed since the exchange than the server remembers, so the model before was given up: load it again"
    } else {
        "there is no model to go back to"
    }
}
