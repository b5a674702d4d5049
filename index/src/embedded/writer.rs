//! One thread writes for everybody: requests that arrive while a commit is under way share the next one (group commit).

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{Shared, maintenance::Bell, recovery::Recovery};
use crate::{
    IndexError,
    memory::Memory,
    store::{Change, Part, Write},
};

/// Requests that may wait; more wait in line outside.
const QUEUE: usize = 256;
/// Items and ids in one commit at most, one request at least.
const GROUP_ITEMS: usize = 16 * 1024;
/// While there is nothing to write, the storage is looked after so often: it may fail while reading, too.
const TICK: Duration = Duration::from_secs(1);

/// What became of each part of a request: the number of items that it removed (not counting replaced ones) or patched, or why it was
/// refused.
type Outcome = Result<Vec<Result<usize, IndexError>>, IndexError>;

/// A request and where its outcome goes.
struct Job {
    write: Write,
    done: SyncSender<Outcome>,
}

/// Handle of the writing thread. Dropping it lets the thread finish what is queued, and waits.
pub(super) struct Writer {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>, bell: Bell) -> Result<Self, IndexError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let path = shared.store.path().to_owned();
        let thread = thread::Builder::new()
            .name("index-writer".into())
            .spawn(move || run(&shared, &jobs, &bell))
            .map_err(|source: io::Error| IndexError::Io { path, source })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a request and waits until it is durable and searchable. Returns what became of each of its parts.
    pub(super) fn write(&self, write: Write) -> Result<Vec<Result<usize, IndexError>>, IndexError> {
        let (done, outcome) = sync_channel(1);
        let queue = self.queue.as_ref().ok_or(IndexError::Closed)?;
        queue.send(Job { write, done }).map_err(|_| IndexError::Closed)?;
        outcome.recv().map_err(|_| IndexError::Closed)?
    }

    /// As [`Writer::write`]; returns the items of all parts together.
    pub(super) fn count(&self, write: Write) -> Result<usize, IndexError> {
        self.write(write)?.into_iter().sum()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the index writer had panicked");
        }
    }
}

fn run(shared: &Shared, jobs: &Receiver<Job>, bell: &Bell) {
    let mut recovery = Recovery::default();
    let mut next = wait(shared, jobs, &mut recovery);
    while let Some(first) = next.take() {
        let (writes, waiting);
        (writes, waiting, next) = gather(first, jobs);
        // The outcomes go out after the lock is released: whoever is told of a write finds it.
        let outcomes = commit(shared, writes, &recovery);
        for (done, outcome) in waiting.into_iter().zip(outcomes) {
            // Nobody may be waiting any more; the write stands all the same.
            let _ = done.send(outcome);
        }
        bell.ring();
        next = next.or_else(|| wait(shared, jobs, &mut recovery));
    }
}

/// The next request; `None` when the index closes. A storage that has failed is mended first.
fn wait(shared: &Shared, jobs: &Receiver<Job>, recovery: &mut Recovery) -> Option<Job> {
    loop {
        recovery.attend(shared);
        match jobs.recv_timeout(TICK) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// The first request and those that wait behind it, up to one that has to be the first of its group; that one comes third.
fn gather(first: Job, jobs: &Receiver<Job>) -> (Vec<Write>, Vec<SyncSender<Outcome>>, Option<Job>) {
    let mut items = size(&first.write);
    let (mut writes, mut waiting) = (vec![first.write], vec![first.done]);
    while items < GROUP_ITEMS
        && let Ok(job) = jobs.try_recv()
    {
        if matches!(job.write, Write::DeleteProducts(_)) {
            // Memory tells which items these are, and it does not know of this group yet.
            return (writes, waiting, Some(job));
        }
        items += size(&job.write);
        writes.push(job.write);
        waiting.push(job.done);
    }
    (writes, waiting, None)
}

fn size(write: &Write) -> usize {
    match write {
        Write::Upsert(items) => items.len(),
        Write::Patch(patches) => patches.iter().map(|patch| patch.ids.len()).sum(),
        Write::Delete(ids) | Write::DeleteProducts(ids) => ids.len(),
        Write::Barrier => 0,
    }
}

/// Writes to the store, then to memory. An outcome for each request.
fn commit(shared: &Shared, mut writes: Vec<Write>, recovery: &Recovery) -> Vec<Outcome> {
    if let Some(reason) = recovery.resting() {
        return writes.iter().map(|_| Err(shared.store.unavailable(reason))).collect();
    }
    let _guard = shared.writing.lock();
    let written = name_items(shared, &mut writes).and_then(|()| shared.store.write(&writes));
    let written = match written {
        Ok(written) => written,
        Err(error) => {
            tracing::error!(%error, requests = writes.len(), "commit failed");
            let detail = error.to_string();
            return writes.iter().map(|_| Err(IndexError::Commit { detail: detail.clone() })).collect();
        }
    };
    let mut memory = shared.memory.write();
    let mut followed = Vec::with_capacity(written.len());
    for parts in written {
        followed.push(Ok(parts.into_iter().map(|part| follow(&mut memory, part)).collect()));
    }
    followed
}

/// Makes the same changes in memory as were made in the store. Returns the number of items removed or patched.
fn follow(memory: &mut Memory, part: Part<'_>) -> Result<usize, IndexError> {
    let changes = part?;
    changes.iter().for_each(|change| memory.apply(change));
    let counts = |change: &&Change<'_>| !matches!(change, Change::Added { .. });
    Ok(changes.iter().filter(counts).count())
}

/// Turns a request for products, which is always the first of its group, into one for their items.
fn name_items(shared: &Shared, writes: &mut [Write]) -> Result<(), IndexError> {
    let Some(first @ Write::DeleteProducts(_)) = writes.first_mut() else { return Ok(()) };
    let Write::DeleteProducts(products) = &*first else { return Ok(()) };
    let rows: Vec<u64> = {
        let memory = shared.memory.read();
        products.iter().flat_map(|id| memory.rows_of_product(id)).collect()
    };
    let records = shared.store.records(&rows)?;
    *first = Write::Delete(records.into_iter().flatten().map(|record| record.id).collect());
    Ok(())
}
