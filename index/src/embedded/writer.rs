//! One thread writes for everybody: requests that arrive while a commit is under way share the next one (group commit).

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use super::{Shared, maintenance::Bell};
use crate::{
    IndexError,
    store::{Change, Write},
};

/// Requests that may wait; more wait in line outside.
const QUEUE: usize = 256;
/// Items and ids in one commit at most, one request at least.
const GROUP_ITEMS: usize = 16 * 1024;

/// A request and where its outcome goes.
struct Job {
    write: Write,
    done: SyncSender<Result<usize, IndexError>>,
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

    /// Queues a request and waits until it is durable and searchable. Returns the number of items that were removed (not
    /// counting replaced ones) or patched.
    pub(super) fn write(&self, write: Write) -> Result<usize, IndexError> {
        let (done, outcome) = sync_channel(1);
        let queue = self.queue.as_ref().ok_or(IndexError::Closed)?;
        queue.send(Job { write, done }).map_err(|_| IndexError::Closed)?;
        outcome.recv().map_err(|_| IndexError::Closed)?
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
    let mut next = jobs.recv().ok();
    while let Some(first) = next.take() {
        let (writes, waiting);
        (writes, waiting, next) = gather(first, jobs);
        // The outcomes go out after the lock is released: whoever is told of a write finds it.
        let outcomes = commit(shared, writes);
        for (done, outcome) in waiting.into_iter().zip(outcomes) {
            // Nobody may be waiting any more; the write stands all the same.
            let _ = done.send(outcome);
        }
        bell.ring();
        next = next.or_else(|| jobs.recv().ok());
    }
}

/// The first request and those that wait behind it, up to one that has to be the first of its group; that one comes third.
#[expect(clippy::type_complexity, reason = "what a group is: its writes, who waits for them, and the next")]
fn gather(
    first: Job,
    jobs: &Receiver<Job>,
) -> (Vec<Write>, Vec<SyncSender<Result<usize, IndexError>>>, Option<Job>) {
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
        Write::Patch(patches) => patches.len(),
        Write::Delete(ids) | Write::DeleteProducts(ids) => ids.len(),
        Write::Barrier => 0,
    }
}

/// Writes to the store, then to memory. An outcome for each request.
fn commit(shared: &Shared, mut writes: Vec<Write>) -> Vec<Result<usize, IndexError>> {
    let _guard = shared.writing.lock();
    let written = name_items(shared, &mut writes).and_then(|()| shared.store.write(&writes));
    let changes = match written {
        Ok(changes) => changes,
        Err(error) => {
            tracing::error!(%error, requests = writes.len(), "commit failed");
            let detail = error.to_string();
            return writes.iter().map(|_| Err(IndexError::Commit { detail: detail.clone() })).collect();
        }
    };
    let mut memory = shared.memory.write();
    changes
        .iter()
        .map(|changes| {
            changes.iter().for_each(|change| memory.apply(change));
            let counts = |change: &&Change<'_>| !matches!(change, Change::Added { .. });
            Ok(changes.iter().filter(counts).count())
        })
        .collect()
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
