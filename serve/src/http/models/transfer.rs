//! From one model's catalogue into another's: every picture embedded again, everything else as it is.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use dfml_index::Item;
use serde_json::Value;

use crate::{
    bulk::{BulkOptions, embed_files},
    http::{
        Backend,
        images::PATH_KEY,
        jobs::{Job, inside},
    },
};

/// Items read, embedded and written at a time.
const PAGE_ITEMS: usize = 128;
/// One worker and small batches: the searches that are answered meanwhile come first.
const OPTIONS: BulkOptions = BulkOptions { batch: 4, workers: Some(1), digest: false };

/// A transfer under way.
pub(super) struct Transfer<'a> {
    pub(super) from: &'a Backend,
    pub(super) to: &'a Backend,
    /// The image folder.
    pub(super) images: Option<&'a Path>,
    pub(super) job: &'a Job,
    /// Most pictures per second.
    pub(super) pace: Option<f64>,
    /// Items that could not be embedded again.
    pub(super) missing: usize,
}

impl Transfer<'_> {
    /// Transfers all items, and removes those that are only in the other catalogue.
    pub(super) fn everything(&mut self) -> Result<(), String> {
        let mut after = None::<String>;
        loop {
            let page = self.from.index.page(after.as_deref(), PAGE_ITEMS).map_err(text)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            let count = page.len();
            self.page(page)?;
            self.job.step(count);
        }
        self.remove_strays()
    }

    /// Brings single items up to date: changed, new or gone.
    pub(super) fn items(&mut self, ids: &BTreeSet<String>) -> Result<(), String> {
        let ids: Vec<&String> = ids.iter().collect();
        for chunk in ids.chunks(PAGE_ITEMS) {
            let (mut there, mut gone) = (Vec::new(), Vec::new());
            for &id in chunk {
                match self.from.index.get(id).map_err(text)? {
                    Some(item) => there.push(item),
                    None => gone.push(id.clone()),
                }
            }
            self.to.index.delete(&gone).map_err(text)?;
            self.page(there)?;
        }
        Ok(())
    }

    fn page(&mut self, items: Vec<Item>) -> Result<(), String> {
        let start = Instant::now();
        let mut fresh = Vec::new();
        for item in items {
            let known = self.to.index.get(&item.id).map_err(text)?;
            let is_same = known
                .is_some_and(|known| known.product_id == item.product_id && known.metadata == item.metadata);
            if !is_same {
                fresh.push(item);
            }
        }
        let embedded = self.embed(fresh)?;
        let count = embedded.len();
        if !embedded.is_empty() {
            self.to.index.upsert(embedded).map_err(text)?;
        }
        if let Some(pace) = self.pace {
            let due = Duration::try_from_secs_f64(count as f64 / pace).unwrap_or_default();
            self.pause(due.saturating_sub(start.elapsed()));
        }
        self.stopped()
    }

    /// The items with the other model's vectors; those without a picture are left out and counted.
    fn embed(&mut self, items: Vec<Item>) -> Result<Vec<Item>, String> {
        let (mut paths, mut pictured) = (Vec::<PathBuf>::new(), Vec::new());
        for item in items {
            match self.picture(&item) {
                Ok(path) => {
                    paths.push(path);
                    pictured.push(Some(item));
                }
                Err(why) => self.miss(&item.id, &why),
            }
        }
        let (mut embedded, mut missed) = (Vec::with_capacity(paths.len()), Vec::new());
        embed_files(&self.to.engine, &paths, &OPTIONS, |position, result| {
            if let Some(item) = pictured[position].take() {
                match result {
                    Ok(embedding) => embedded.push(Item { vector: embedding.vector, ..item }),
                    Err(error) => missed.push((item.id, error.kind.to_string())),
                }
            }
            if self.job.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .map_err(text)?;
        for (id, why) in missed {
            self.miss(&id, &why);
        }
        Ok(embedded)
    }

    fn picture(&self, item: &Item) -> Result<PathBuf, String> {
        let folder = self.images.ok_or("the server has no image folder")?;
        let path = item.metadata.get(PATH_KEY).and_then(Value::as_str).ok_or("it has no picture")?;
        inside(folder, path)
    }

    fn miss(&mut self, id: &str, why: &str) {
        self.missing += 1;
        self.job.fail_part(format!("{id}: {why}"));
    }

    /// Items that were transferred by an earlier, interrupted run and have been deleted since.
    fn remove_strays(&self) -> Result<(), String> {
        let mut after = None::<String>;
        loop {
            let page = self.to.index.page(after.as_deref(), PAGE_ITEMS).map_err(text)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.clone());
            let mut strays = Vec::new();
            for item in page {
                if self.from.index.get(&item.id).map_err(text)?.is_none() {
                    strays.push(item.id);
                }
            }
            self.to.index.delete(&strays).map_err(text)?;
        }
    }

    /// Waits, but not longer than the job is wanted.
    fn pause(&self, how_long: Duration) {
        let until = Instant::now() + how_long;
        while Instant::now() < until && !self.job.is_cancelled() {
            thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
        }
    }

    fn stopped(&self) -> Result<(), String> {
        if self.job.is_cancelled() { Err("cancelled".to_owned()) } else { Ok(()) }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
