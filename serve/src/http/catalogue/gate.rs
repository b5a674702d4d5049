//! The gate that every change to the index passes, and the journal of what has changed.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    runtime::Handle,
    sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock},
};

use super::super::AppState;

/// Most memory for the ids of changed items: about a million of the usual length. With more, catching up would take about as long as
/// making the other catalogue anew.
const JOURNAL_BYTES_MAX: usize = 128 << 20;
/// What an id takes in memory beside its text, about.
const ID_BYTES: usize = 64;

/// Lets writers through side by side, and an exchange of the model alone. While the next model's catalogue is being made, and as long as
/// the model before can be gone back to, it notes which items change, so that none of them is lost in the exchange.
pub(in crate::http) struct Gate {
    lock: Arc<RwLock<()>>,
    journal: Mutex<Journal>,
    journal_bytes_max: usize,
}

/// Which items have changed.
enum Journal {
    /// Nobody needs to know.
    Off,
    /// These have, and their ids take about so much memory.
    Noting { ids: BTreeSet<String>, bytes: usize },
    /// More than are remembered.
    Full,
}

impl Default for Gate {
    fn default() -> Self {
        Self { lock: Arc::default(), journal: Mutex::new(Journal::Off), journal_bytes_max: JOURNAL_BYTES_MAX }
    }
}

impl Gate {
    /// Starts noting changes.
    pub(in crate::http) fn start_journal(&self) {
        *self.journal() = Journal::Noting { ids: BTreeSet::new(), bytes: 0 };
    }

    /// Stops noting changes.
    pub(in crate::http) fn stop_journal(&self) {
        *self.journal() = Journal::Off;
    }

    /// Whether more has changed since the journal was started than is remembered.
    pub(in crate::http) fn has_overflowed(&self) -> bool {
        matches!(*self.journal(), Journal::Full)
    }

    /// How many items have changed since the journal was started or last taken.
    pub(in crate::http) fn changes(&self) -> usize {
        match &*self.journal() {
            Journal::Noting { ids, .. } => ids.len(),
            Journal::Off | Journal::Full => 0,
        }
    }

    /// Waits until nobody writes, and keeps everybody from writing until the guard is dropped. On a thread that may block.
    pub(in crate::http) fn close(&self) -> OwnedRwLockWriteGuard<()> {
        Handle::current().block_on(Arc::clone(&self.lock).write_owned())
    }

    /// The right to write; the gate is not closed before it is dropped.
    pub(super) async fn enter(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.lock).read_owned().await
    }

    /// The right to write while nobody else does, for a task; [`Gate::close`] is for a thread that may block.
    pub(super) async fn enter_alone(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.lock).write_owned().await
    }

    /// As [`Gate::enter`], on a thread that may block.
    pub(in crate::http) fn enter_blocking(&self) -> OwnedRwLockReadGuard<()> {
        Handle::current().block_on(self.enter())
    }

    /// Notes changes. Returns whether they have just become too many.
    #[must_use]
    fn note(&self, changed: impl IntoIterator<Item = String>) -> bool {
        let mut journal = self.journal();
        let Journal::Noting { ids, bytes } = &mut *journal else { return false };
        for id in changed {
            let size = id.len() + ID_BYTES;
            if ids.insert(id) {
                *bytes += size;
            }
        }
        let is_full = *bytes > self.journal_bytes_max;
        if is_full {
            *journal = Journal::Full;
        }
        is_full
    }

    /// The items that have changed since the last call; `None` if they are too many.
    fn take(&self) -> Option<BTreeSet<String>> {
        match &mut *self.journal() {
            Journal::Off => Some(BTreeSet::new()),
            Journal::Noting { ids, bytes } => {
                *bytes = 0;
                Some(mem::take(ids))
            }
            Journal::Full => None,
        }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AppState {
    /// Notes which items have changed, for whoever exchanges the model. If there are more than are remembered, the model before is given
    /// up: it could no longer be brought up to date.
    pub(in crate::http) fn note(&self, changed: impl IntoIterator<Item = String>) {
        if !self.gate().note(changed) {
            return;
        }
        if let Some(before) = self.previous() {
            tracing::warn!(
                model = %before.label(),
                "more items have changed since the exchange than are remembered: the model before is given up"
            );
            self.forget_previous();
        }
    }
}

/// Changes that were taken out of the journal. They go back into it when this is dropped, whatever the reason, unless somebody has said that
/// they have been carried over for good.
pub(in crate::http) struct Changes<'a> {
    state: &'a AppState,
    ids: BTreeSet<String>,
}

impl<'a> Changes<'a> {
    /// The items that have changed since the last call; `None` if they are more than are remembered.
    pub(in crate::http) fn take(state: &'a AppState) -> Option<Self> {
        state.gate().take().map(|ids| Self { state, ids })
    }

    /// The items: changed, new or gone.
    pub(in crate::http) fn ids(&self) -> &BTreeSet<String> {
        &self.ids
    }

    /// Says that they have been carried over.
    pub(in crate::http) fn carried_over(mut self) {
        self.ids.clear();
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        self.state.note(mem::take(&mut self.ids));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::HttpOptions, metrics::Metrics};

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn changes_are_noted_from_the_start_to_the_stop_and_each_once() {
        let gate = Gate::default();
        assert!(!gate.note(ids(&["before"])));
        gate.start_journal();
        assert!(!gate.note(ids(&["a", "b"])) && !gate.note(ids(&["b", "c"])));
        assert_eq!(gate.changes(), 3);
        assert_eq!(gate.take().map(Vec::from_iter), Some(ids(&["a", "b", "c"])));
        assert_eq!(gate.take().map(Vec::from_iter), Some(ids(&[])));
        assert!(!gate.note(ids(&["d"])));
        gate.stop_journal();
        assert!(!gate.note(ids(&["after"])));
        assert_eq!(gate.take().map(Vec::from_iter), Some(ids(&[])));
    }

    #[test]
    fn a_journal_that_becomes_too_long_is_given_up_until_it_is_started_anew() {
        let gate = Gate { journal_bytes_max: 2 * ID_BYTES + 2, ..Gate::default() };
        gate.start_journal();
        assert!(!gate.note(ids(&["a", "b"])) && !gate.note(ids(&["a"])), "it has room for two");
        assert!(gate.note(ids(&["c"])), "it is told once");
        assert!(!gate.note(ids(&["d"])) && gate.has_overflowed());
        assert_eq!((gate.take(), gate.changes()), (None, 0));
        gate.start_journal();
        assert!(!gate.note(ids(&["e"])) && !gate.has_overflowed());
        assert_eq!(gate.take().map(Vec::from_iter), Some(ids(&["e"])));
    }

    #[test]
    fn what_is_not_carried_over_goes_back_into_the_journal() {
        let metrics = Arc::new(Metrics::new().expect("metric names are unique"));
        let state = AppState::new(HttpOptions::default(), metrics).expect("no folder is named");
        state.gate().start_journal();
        state.note(ids(&["a"]));
        let changes = Changes::take(&state).expect("they are few");
        assert_eq!(Vec::from_iter(changes.ids().clone()), ids(&["a"]));
        state.note(ids(&["b"]));
        drop(changes);
        let changes = Changes::take(&state).expect("they are few");
        assert_eq!(Vec::from_iter(changes.ids().clone()), ids(&["a", "b"]));
        changes.carried_over();
        assert_eq!(state.gate().changes(), 0);
    }
}
