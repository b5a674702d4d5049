//! Making the next generation of memory, in the background or when asked.

use std::{
    io,
    num::NonZero,
    path::Path,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use parking_lot::MutexGuard;

use super::{OpenOptions, Shared};
use crate::{
    IndexError,
    graph::{self, BuildOptions, Loaded},
    memory::{Compaction, Memory},
};

/// With fewer items to put in order there is nothing to win.
const CHANGED_MIN: usize = 1024;

/// Wakes the maintainer.
#[derive(Clone)]
pub(super) struct Bell(SyncSender<()>);

impl Bell {
    /// Has the maintainer look whether there is something to do.
    pub(super) fn ring(&self) {
        // If a ring is pending already, that one will do.
        let _ = self.0.try_send(());
    }
}

/// Handle of the maintaining thread. Dropping it ends what the thread is doing, and waits.
pub(super) struct Maintainer {
    bell: Option<Bell>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Maintainer {
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, IndexError> {
        let (bell, rings) = sync_channel(1);
        let bell = Bell(bell);
        bell.ring();
        let path = shared.store.path().to_owned();
        let worker = Arc::clone(shared);
        let thread = thread::Builder::new()
            .name("index-maintainer".into())
            .spawn(move || run(&worker, &rings))
            .map_err(|source: io::Error| IndexError::Io { path, source })?;
        Ok(Self { bell: Some(bell), thread: Some(thread), shared: Arc::clone(shared) })
    }

    /// Another handle to wake the maintainer with.
    pub(super) fn bell(&self) -> Bell {
        self.bell.clone().expect("it is taken only when dropped")
    }
}

impl Drop for Maintainer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(self.bell.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the index maintainer had panicked");
        }
    }
}

fn run(shared: &Shared, rings: &Receiver<()>) {
    while rings.recv().is_ok() {
        if !shared.closing.load(Ordering::Relaxed) && shared.needs_rebuild() {
            shared.rebuild_if_needed();
        }
    }
}

/// Takes up the graph that was saved beside the store, if it is still good for what memory holds.
pub(super) fn load_graph(folder: &Path, memory: &mut Memory, options: &OpenOptions) {
    if memory.count() <= options.tuning.exact_up_to {
        return;
    }
    match graph::load(folder, memory.rows()) {
        Loaded::Graph(graph) => memory.set_graph(graph),
        Loaded::Absent => tracing::info!(folder = %folder.display(), "no search graph yet; building one"),
        Loaded::Unusable(reason) => {
            tracing::warn!(folder = %folder.display(), reason, "the saved search graph cannot be used; building it again");
        }
    }
}

impl Shared {
    /// Whether enough has changed for a new generation.
    fn needs_rebuild(&self) -> bool {
        let tuning = &self.options.tuning;
        let memory = self.memory.read();
        let (dead, live) = (memory.tombstones(), memory.count());
        let wants_graph = live > tuning.exact_up_to;
        if wants_graph && memory.graph_info().is_none() {
            return true;
        }
        let changed = dead + memory.fresh();
        changed >= CHANGED_MIN && changed as f64 > tuning.rebuild_share * (dead + live) as f64
    }

    /// Makes the next generation if enough has changed, after the one that is being made.
    pub(super) fn rebuild_if_needed(&self) {
        let one_at_a_time = self.rebuilding.lock();
        if self.needs_rebuild() {
            self.rebuild_alone(&one_at_a_time);
        }
    }

    /// Makes the next generation and puts it in use. Reads go on all the time, writes but for two moments.
    pub(super) fn rebuild(&self) {
        self.rebuild_alone(&self.rebuilding.lock());
    }

    fn rebuild_alone(&self, _one_at_a_time: &MutexGuard<'_, ()>) {
        let start = Instant::now();
        let mut compaction = {
            let _nobody_writes = self.writing.lock();
            Compaction::begin(&self.memory.read())
        };
        if compaction.rows().len() > self.options.tuning.exact_up_to {
            let Some(graph) = graph::build(compaction.rows(), &self.build_options(), &self.closing) else {
                return;
            };
            if let Err(error) = graph::save(&self.folder, &graph, compaction.rows()) {
                // It is in memory all the same; the next start will have to build it again.
                tracing::warn!(%error, "the search graph could not be saved");
            }
            compaction.set_graph(graph);
        }
        let nobody_writes = self.writing.lock();
        let next = compaction.finish(&self.memory.read());
        let (generation, items, graph) = (next.generation(), next.count(), next.graph_info());
        let previous = std::mem::replace(&mut *self.memory.write(), next);
        drop(nobody_writes);
        // Giving back its memory takes a while; nobody waits for that.
        drop(previous);
        let seconds = start.elapsed().as_secs_f64();
        tracing::info!(
            generation,
            items,
            graph = graph.is_some(),
            seconds,
            "next generation of the index in use"
        );
    }

    fn build_options(&self) -> BuildOptions {
        let tuning = &self.options.tuning;
        let half = || thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2);
        BuildOptions {
            links: tuning.links,
            effort: tuning.build_effort,
            threads: tuning.build_threads.unwrap_or_else(half),
            builder: tuning.builder,
        }
    }
}
