//! From one model's catalogue into another's: every picture embedded again, everything else as it is.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use dfml_index::Item;
use serde_json::Value;

use super::TOO_MANY_CHANGES;
use crate::{
    bulk::{BulkOptions, embed_files},
    http::{
        AppState, Backend,
        error::shortened,
        images::PATH_KEY,
        jobs::{Failure, Job, inside},
    },
};

/// Items read, embedded and written at a time.
const PAGE_ITEMS: usize = 128;
/// One worker and small batches: the searches that are answered meanwhile come first.
const OPTIONS: BulkOptions = BulkOptions { batch: 4, workers: Some(1), digest: false };
/// Items that would be lost are told by their names up to so many.
const NAMED: usize = 5;
/// How soon a transfer that waits notices that it is not wanted any more.
const MOMENT: Duration = Duration::from_millis(20);

/// A transfer under way.
pub(super) struct Transfer<'a> {
    pub(super) state: &'a AppState,
    pub(super) job: &'a Job,
    pub(super) from: &'a Backend,
    pub(super) to: &'a Backend,
    /// Most pictures per second.
    pub(super) pace: Option<f64>,
    /// Whether items may be lost.
    pub(super) allow_missing: bool,
    /// Items that the other catalogue does not have, because there is no picture of which to make their vector.
    pub(super) missing: BTreeSet<String>,
}

/// What became of some items.
struct Embedded {
    items: Vec<Item>,
    /// Those that could not be embedded, and why.
    missed: Vec<(String, Failure)>,
}

impl Transfer<'_> {
    /// Transfers all items, and removes those that are only in the other catalogue.
    pub(super) fn everything(&mut self) -> Result<(), Failure> {
        let mut after = None::<String>;
        loop {
            let page = self.from.index.page(after.as_deref(), PAGE_ITEMS)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            let count = page.len();
            let unknown = self.unknown(page)?;
            self.carry(unknown)?;
            self.job.step(count);
        }
        self.remove_strays()
    }

    /// Brings single items up to date: changed, new or gone. They are embedded anew even if they look the same, as there may be another
    /// picture under the same path.
    pub(super) fn items(&mut self, ids: &BTreeSet<String>) -> Result<(), Failure> {
        let ids: Vec<&String> = ids.iter().collect();
        for chunk in ids.chunks(PAGE_ITEMS) {
            let (mut there, mut gone) = (Vec::new(), Vec::new());
            for &id in chunk {
                match self.from.index.get(id)? {
                    Some(item) => there.push(item),
                    None => gone.push(id.clone()),
                }
            }
            self.delete(&gone)?;
            for id in &gone {
                self.missing.remove(id);
            }
            self.carry(there)?;
        }
        Ok(())
    }

    /// Refuses to go on if items would be lost that may not be.
    pub(super) fn refuse_losses(&self) -> Result<(), Failure> {
        if self.allow_missing || self.missing.is_empty() {
            return Ok(());
        }
        let named: Vec<String> =
            self.missing.iter().take(NAMED).map(|id| format!("{:?}", shortened(id))).collect();
        let more = match self.missing.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(format!(
            "{} items have no picture that can be embedded again and would be lost: {}{more}; allow_missing lets them go",
            self.missing.len(),
            named.join(", ")
        )
        .into())
    }

    /// Without those that an earlier, interrupted run has carried over.
    fn unknown(&self, items: Vec<Item>) -> Result<Vec<Item>, Failure> {
        let mut unknown = Vec::new();
        for item in items {
            let known = self.to.index.get(&item.id)?;
            let is_same = known
                .is_some_and(|known| known.product_id == item.product_id && known.metadata == item.metadata);
            if !is_same {
                unknown.push(item);
            }
        }
        Ok(unknown)
    }

    /// Embeds items and stores them, not faster than is wanted.
    fn carry(&mut self, items: Vec<Item>) -> Result<(), Failure> {
        let start = Instant::now();
        let Embedded { items, missed } = self.embed(items)?;
        let count = items.len();
        for item in &items {
            self.missing.remove(&item.id);
        }
        if !items.is_empty() {
            self.to.index.upsert(items)?;
        }
        self.miss(missed)?;
        if let Some(pace) = self.pace {
            self.wait(start, time_for(count, pace));
        }
        self.go_on()
    }

    /// The items with the other model's vectors, and those of which there is no picture.
    fn embed(&self, items: Vec<Item>) -> Result<Embedded, Failure> {
        let (mut paths, mut pictured, mut missed) = (Vec::<PathBuf>::new(), Vec::new(), Vec::new());
        for item in items {
            match self.picture(&item) {
                Ok(path) => {
                    paths.push(path);
                    pictured.push(Some(item));
                }
                Err(why) => missed.push((item.id, why)),
            }
        }
        let mut embedded = Vec::with_capacity(paths.len());
        embed_files(&self.to.engine, &paths, &OPTIONS, |position, result| {
            if let Some(item) = pictured[position].take() {
                match result {
                    Ok(embedding) => embedded.push(Item { vector: embedding.vector, ..item }),
                    Err(error) => missed.push((item.id, Failure::from(&error))),
                }
            }
            if self.job.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(Embedded { items: embedded, missed })
    }

    fn picture(&self, item: &Item) -> Result<PathBuf, Failure> {
        let folder = self.state.options().images.as_deref().ok_or("the server has no image folder")?;
        let path = item.metadata.get(PATH_KEY).and_then(Value::as_str).ok_or("it has no picture")?;
        inside(folder, path).map_err(Failure::from)
    }

    /// Notes items that could not be embedded. A copy from before goes, too: it would be found by what is no longer so.
    fn miss(&mut self, missed: Vec<(String, Failure)>) -> Result<(), Failure> {
        let ids: Vec<String> = missed.iter().map(|(id, _)| id.clone()).collect();
        self.delete(&ids)?;
        for (id, why) in missed {
            if !self.missing.contains(&id) {
                self.job.fail_part(&id, &why);
                self.missing.insert(id);
            }
        }
        Ok(())
    }

    /// Items that were transferred by an earlier, interrupted run and have been deleted since.
    fn remove_strays(&self) -> Result<(), Failure> {
        let mut after = None::<String>;
        loop {
            let page = self.to.index.page(after.as_deref(), PAGE_ITEMS)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.clone());
            let mut strays = Vec::new();
            for item in page {
                if self.from.index.get(&item.id)?.is_none() {
                    strays.push(item.id);
                }
            }
            self.delete(&strays)?;
        }
    }

    fn delete(&self, ids: &[String]) -> Result<(), Failure> {
        if !ids.is_empty() {
            self.to.index.delete(ids)?;
        }
        Ok(())
    }

    /// Waits until so much time has passed since the start, but not longer than the job is wanted.
    fn wait(&self, start: Instant, time: Duration) {
        while !self.job.is_cancelled() {
            let left = time.saturating_sub(start.elapsed());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(MOMENT));
        }
    }

    /// Whether there is still a point in it.
    fn go_on(&self) -> Result<(), Failure> {
        if self.job.is_cancelled() {
            return Err("cancelled".into());
        }
        if self.state.gate().has_overflowed() {
            return Err(TOO_MANY_CHANGES.into());
        }
        Ok(())
    }
}

/// How long so many pictures take at a pace. Next to no pace is for ever: such a time is compared, but never added to another one.
fn time_for(pictures: usize, pace: f64) -> Duration {
    Duration::try_from_secs_f64(pictures as f64 / pace).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pace_has_its_time() {
        assert_eq!(time_for(3, 2.0), Duration::from_millis(1500));
        assert_eq!(time_for(0, 0.5), Duration::ZERO);
        // Too long to be added to the present, and too long to be said at all.
        assert!(time_for(36, 1e-17) > Duration::from_secs(1 << 60));
        assert_eq!(time_for(36, 1e-30), Duration::MAX);
        assert_eq!(time_for(36, f64::MIN_POSITIVE), Duration::MAX);
    }
}
