//! Taking a list of pictures in the import folder into the catalogue.

use std::{
    ops::ControlFlow,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Job, Runner};
use crate::{
    bulk::{ImageList, Ingest, IngestEvent, IngestOptions, Products},
    http::AppState,
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
    fn run(self, state: &AppState, job: &Job) -> Result<Value, String> {
        let folder =
            state.options().import_dir.as_deref().ok_or("importing is switched off on this server")?;
        let inside = |path: &str| inside(folder, path);
        let root = self.root.as_deref().map(inside).transpose()?;
        let list =
            ImageList::read(&inside(&self.list)?, root.as_deref()).map_err(|error| hide(folder, &error))?;
        let products = match &self.products {
            Some(path) => Products::read(&inside(path)?).map_err(|error| hide(folder, &error))?,
            None => Products::default(),
        };
        let backend = state.backend().map_err(|error| error.to_string())?;
        job.begin(list.entries.len());
        let ingest =
            Ingest { engine: &backend.engine, store: &*backend.index, list: &list, products: &products };
        let summary = ingest.run(&IngestOptions::default(), |event| {
            if let IngestEvent::Failed { entry, error } = event {
                job.fail_part(format!("line {}: {}", entry.line, hide(folder, error)));
            }
            job.step(1);
            if job.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let summary = summary.map_err(|error| hide(folder, &error))?;
        serde_json::to_value(summary).map_err(|error| error.to_string())
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

/// An error's text without where the folder is on the server.
fn hide(folder: &Path, error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let known = [Some(folder.to_path_buf()), fs_err::canonicalize(folder).ok()];
    known.into_iter().flatten().fold(text, |text, folder| {
        text.replace(&format!("{}/", folder.display()), "").replace(&folder.display().to_string(), ".")
    })
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
        let told = hide(&folder, &format!("{}/lists/a.txt:3: wrong", folder.display()));
        assert_eq!(told, "lists/a.txt:3: wrong");
    }
}
