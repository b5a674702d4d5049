//! Taking a list of pictures in the import folder into the catalogue.

use std::{
    ops::ControlFlow,
    path::{Component, Path, PathBuf},
};

use dfml_index::{IndexError, Item, ItemStore, VectorIndex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Failure, Job, Runner};
use crate::{
    bulk::{ImageList, Ingest, IngestEvent, IngestOptions, Products},
    http::{ApiError, AppState},
};

/// What to import. All paths are relative to the server's import folder, and lead nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ImportSpec {
    /// List of pictures in the layout of Stanford Online Products: a line `image_id class_id super_class_id path` for each.
    #[schema(min_length = 1, examples("gallery.txt"))]
    pub(super) list: String,
    /// Folder that the list's paths start from; the list's own if not given.
    #[schema(min_length = 1)]
    root: Option<String>,
    /// What is known about the products: a JSON object a line with `id`, `name`, `category` …
    #[schema(min_length = 1, examples("products.jsonl"))]
    products: Option<String>,
}

impl Runner for ImportSpec {
    fn run(self, state: &AppState, job: &Job) -> Result<Value, Failure> {
        let folder =
            state.options().import_dir.as_deref().ok_or("importing is switched off on this server")?;
        let (list, products) = self.read(folder)?;
        let backend = state.backend()?;
        job.begin(list.entries.len());
        let store = Noted { state, index: &*backend.index };
        let ingest = Ingest { engine: &backend.engine, store: &store, list: &list, products: &products };
        let summary = ingest.run(&IngestOptions::default(), |event| {
            if let IngestEvent::Failed { entry, error } = event {
                let part = format!("line {}: {}", entry.line, entry.path.display());
                job.fail_part(&part, &Failure::from(error));
            }
            job.step(1);
            if job.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        serde_json::to_value(summary).map_err(|error| ApiError::Internal(error.to_string()).into())
    }
}

impl ImportSpec {
    /// The list and what is known about its products.
    fn read(&self, folder: &Path) -> Result<(ImageList, Products), Failure> {
        let root = self.root.as_deref().map(|path| inside(folder, path)).transpose()?;
        let path = inside(folder, &self.list)?;
        let list = ImageList::read(&path, root.as_deref())
            .map_err(|error| Failure::of_file(&path, &self.list, &error))?;
        let Some(name) = &self.products else { return Ok((list, Products::default())) };
        let path = inside(folder, name)?;
        let products = Products::read(&path).map_err(|error| Failure::of_file(&path, name, &error))?;
        Ok((list, products))
    }
}

/// The index as an import writes to it: like every other change, each batch passes the gate and is noted, so that it is still there after
/// going back to the model before.
struct Noted<'a> {
    state: &'a AppState,
    index: &'a dyn VectorIndex,
}

impl ItemStore for Noted<'_> {
    fn get(&self, id: &str) -> Result<Option<Item>, IndexError> {
        VectorIndex::get(self.index, id)
    }

    fn upsert(&self, items: Vec<Item>) -> Result<(), IndexError> {
        let ids: Vec<String> = items.iter().map(|item| item.id.clone()).collect();
        let _guard = self.state.gate().enter_blocking();
        let written = VectorIndex::upsert(self.index, items);
        // Even if it failed: some of the items may have been written.
        self.state.note(ids);
        self.state.category_cache().mark_stale();
        written
    }

    fn count(&self) -> Result<usize, IndexError> {
        VectorIndex::count(self.index)
    }
}

/// A path inside the folder, with all links resolved.
pub(in crate::http) fn inside(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let relative = Path::new(path);
    let stays = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let outside = || format!("{path:?} leads out of the folder");
    if !stays {
        return Err(outside());
    }
    let root = fs_err::canonicalize(folder).map_err(|_| "the folder is not there".to_owned())?;
    let found = fs_err::canonicalize(root.join(relative)).map_err(|_| format!("{path:?} is not there"))?;
    // A link inside the folder can lead out of it.
    if found.starts_with(&root) { Ok(found) } else { Err(outside()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_folder() {
        let place = tempfile::tempdir().expect("temporary folder");
        let folder = place.path().join("import");
        fs_err::create_dir_all(folder.join("lists")).expect("create");
        fs_err::write(folder.join("lists/a.txt"), "a").expect("write");
        fs_err::write(place.path().join("secret.txt"), "b").expect("write");
        assert!(inside(&folder, "lists/a.txt").expect("inside").ends_with("import/lists/a.txt"));
        let absolute = place.path().join("secret.txt");
        for outside in ["../secret.txt", "lists/../../secret.txt", absolute.to_str().expect("UTF-8")] {
            assert!(inside(&folder, outside).expect_err(outside).contains("leads out"), "{outside}");
        }
        assert!(inside(&folder, "lists/b.txt").expect_err("missing").contains("not there"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&absolute, folder.join("link.txt")).expect("link");
            assert!(inside(&folder, "link.txt").expect_err("a link out").contains("leads out"));
        }
    }
}
