//! All collections, and their aliases.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use qdrant_client::qdrant::CreateCollection;
use tonic::Status;

use crate::{
    faults::Faults,
    shard::{self, Collection},
};

/// The server's folder.
pub(crate) struct Store {
    folder: PathBuf,
    graph_from_kb: usize,
    collections: RwLock<BTreeMap<String, Arc<Collection>>>,
    aliases: RwLock<BTreeMap<String, String>>,
    pub(crate) faults: Faults,
}

impl Store {
    pub(crate) fn open(folder: &Path, graph_from_kb: usize) -> anyhow::Result<Self> {
        let store = Self {
            folder: folder.to_owned(),
            graph_from_kb,
            collections: RwLock::default(),
            aliases: RwLock::default(),
            faults: Faults::new(folder),
        };
        fs_err::create_dir_all(store.collection_folder(""))?;
        for entry in fs_err::read_dir(store.collection_folder(""))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match Collection::load(&entry.path())? {
                Some(collection) => drop(store.collections.write().insert(name, Arc::new(collection))),
                None => fs_err::remove_dir_all(entry.path())?,
            }
        }
        if let Ok(text) = fs_err::read(store.alias_file()) {
            *store.aliases.write() = serde_json::from_slice(&text)?;
        }
        Ok(store)
    }

    fn collection_folder(&self, name: &str) -> PathBuf {
        self.folder.join("collections").join(name)
    }

    fn alias_file(&self) -> PathBuf {
        self.folder.join("aliases.json")
    }

    /// A collection by its name or alias.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Collection>, Status> {
        let aliased = self.aliases.read().get(name).cloned();
        let found = self.collections.read().get(aliased.as_deref().unwrap_or(name)).cloned();
        found.ok_or_else(|| Status::not_found(format!("Not found: Collection `{name}` doesn't exist!")))
    }

    pub(crate) fn create(&self, definition: CreateCollection) -> Result<(), Status> {
        let name = definition.collection_name.clone();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(Status::invalid_argument("collection name"));
        }
        let mut collections = self.collections.write();
        if collections.contains_key(&name) || self.aliases.read().contains_key(&name) {
            return Err(Status::already_exists(format!("Wrong input: Collection `{name}` already exists!")));
        }
        let collection = Collection::create(&self.collection_folder(&name), definition, self.graph_from_kb)?;
        collections.insert(name, Arc::new(collection));
        Ok(())
    }

    pub(crate) fn delete(&self, name: &str) -> Result<bool, Status> {
        let Some(collection) = self.collections.write().remove(name) else { return Ok(false) };
        drop(collection);
        let folder = self.collection_folder(name);
        fs_err::remove_file(folder.join("definition")).map_err(shard::internal)?;
        fs_err::remove_dir_all(folder).map_err(shard::internal)?;
        self.change_aliases(|aliases| aliases.retain(|_, target| target != name))?;
        Ok(true)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.collections.read().keys().cloned().collect()
    }

    pub(crate) fn aliases(&self) -> BTreeMap<String, String> {
        self.aliases.read().clone()
    }

    /// Changes the aliases, all at once.
    pub(crate) fn change_aliases(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<(), Status> {
        let mut aliases = self.aliases.write();
        let mut next = aliases.clone();
        change(&mut next);
        shard::write(&self.alias_file(), &serde_json::to_vec(&next).map_err(shard::internal)?)?;
        *aliases = next;
        Ok(())
    }

    pub(crate) fn optimise(&self) {
        let all: Vec<_> = self.collections.read().values().cloned().collect();
        all.iter().for_each(|collection| collection.optimise());
    }
}
