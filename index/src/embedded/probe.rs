//! Live recall: a share of the graph searches is answered exactly as well, in the background, and effort follows.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use parking_lot::Mutex;

use super::Shared;
use crate::{
    IndexError, RecallEstimate, Tuning,
    memory::{Memory, Question, Scored},
};

/// Samples that the published estimate is the mean of.
const WINDOW: usize = 256;
/// Samples before effort is raised.
const TO_RAISE: usize = 32;
/// Samples before effort is lowered: that is not urgent, and the evidence has to be better.
const TO_LOWER: usize = 128;
/// Effort is lowered when this share of the distance between the floor and 1 is exceeded.
const MARGIN: f64 = 0.6;
/// Bounds of what effort is steered within.
const EFFORT_MIN: usize = 16;
const EFFORT_MAX: usize = 2048;
/// Samples that may wait; more are passed over.
const QUEUE: usize = 8;
/// After a sample the thread rests this many times as long as the sample took, so that measuring costs at most 1 in 20.
const REST: u32 = 19;
/// Scores that differ by less are the same score.
const SAME: f32 = 1e-6;

/// Effort, and what is known about recall.
pub(super) struct Recall {
    effort: AtomicUsize,
    searches: AtomicU64,
    /// One search in so many is a sample; `None` for no samples.
    every: Option<u64>,
    floor: Option<f64>,
    samples: Mutex<Samples>,
}

#[derive(Default)]
struct Samples {
    recent: VecDeque<f64>,
    /// Number and sum of those since effort was last changed.
    count: usize,
    sum: f64,
}

impl Recall {
    pub(super) fn new(tuning: &Tuning) -> Self {
        let every = (tuning.probe_share > 0.0).then(|| (1.0 / tuning.probe_share).round().max(1.0) as u64);
        Self {
            effort: AtomicUsize::new(tuning.effort),
            searches: AtomicU64::new(0),
            every,
            floor: tuning.recall_floor,
            samples: Mutex::default(),
        }
    }

    /// The effort of searches that do not name their own.
    pub(super) fn effort(&self) -> usize {
        self.effort.load(Ordering::Relaxed)
    }

    /// What is known; `None` before the first sample.
    pub(super) fn estimate(&self) -> Option<RecallEstimate> {
        let samples = self.samples.lock();
        let count = samples.recent.len();
        (count > 0).then(|| RecallEstimate {
            recall: samples.recent.iter().sum::<f64>() / count as f64,
            samples: count,
            floor: self.floor.unwrap_or(0.0),
        })
    }

    /// Whether this search is to be a sample.
    fn is_sample(&self) -> bool {
        let number = self.searches.fetch_add(1, Ordering::Relaxed);
        self.every.is_some_and(|every| number.is_multiple_of(every))
    }

    /// Takes in a sample, and changes effort if that is due.
    fn add(&self, recall: f64) {
        let mut samples = self.samples.lock();
        if samples.recent.len() == WINDOW {
            samples.recent.pop_front();
        }
        samples.recent.push_back(recall);
        samples.count += 1;
        samples.sum += recall;
        let Some(floor) = self.floor else { return };
        let mean = samples.sum / samples.count as f64;
        let effort = self.effort();
        let next = if mean < floor && samples.count >= TO_RAISE {
            (effort + effort / 4 + 8).min(EFFORT_MAX.max(effort))
        } else if mean > floor + MARGIN * (1.0 - floor) && samples.count >= TO_LOWER {
            (effort - effort / 10).max(EFFORT_MIN.min(effort))
        } else {
            return;
        };
        (samples.count, samples.sum) = (0, 0.0);
        if next != effort {
            tracing::debug!(effort = next, was = effort, recall = mean, floor, "search effort changed");
            self.effort.store(next, Ordering::Relaxed);
        }
    }
}

/// Handle of the measuring thread.
pub(super) struct Prober {
    questions: Option<SyncSender<Question>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, IndexError> {
        let (questions, queue) = sync_channel(QUEUE);
        let path = shared.store.path().to_owned();
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new()
            .name("index-prober".into())
            .spawn(move || run(&shared, &queue))
            .map_err(|source: io::Error| IndexError::Io { path, source })?;
        Ok(Self { questions: Some(questions), thread: Some(thread) })
    }

    /// Notes a graph search; now and then it becomes a sample.
    pub(super) fn note(&self, recall: &Recall, question: &Question) {
        if question.request.effort.is_none()
            && recall.is_sample()
            && let Some(questions) = &self.questions
        {
            // If the thread is busy there is no sample this time.
            let _ = questions.try_send(question.clone());
        }
    }
}

impl Drop for Prober {
    /// The maintainer is gone before it and has said that the index closes, so that what is queued is not answered any more.
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the recall prober had panicked");
            }
        }
    }
}

fn run(shared: &Shared, questions: &Receiver<Question>) {
    let closes = || shared.closing.load(Ordering::Relaxed);
    while let Ok(question) = questions.recv()
        && !closes()
    {
        let start = Instant::now();
        let sample = {
            // Writers wait here and not for the lock on memory, where one that waits would hold up all readers.
            let _nobody_writes = shared.writing.lock();
            sample(&shared.memory.read(), &question, shared.recall.effort())
        };
        if let Some(recall) = sample {
            shared.recall.add(recall);
        }
        if !closes() {
            thread::park_timeout(start.elapsed() * REST);
        }
    }
}

/// Recall of a graph search; `None` if it is answered exactly anyway, or nothing is to be found.
fn sample(memory: &Memory, question: &Question, effort: usize) -> Option<f64> {
    if memory.is_exact(question) {
        return None;
    }
    let found = memory.search(question, effort);
    let mut exact = question.clone();
    exact.request.exact = true;
    recall_of(&found, &memory.search(&exact, effort))
}

/// Share of the true results that were found, or others that score the same.
fn recall_of(found: &[Scored], truth: &[Scored]) -> Option<f64> {
    let worst = truth.last()?.score - SAME;
    let good = found.iter().filter(|scored| scored.score >= worst).count();
    Some(good.min(truth.len()) as f64 / truth.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EmbeddedIndex, Item, OpenOptions, SearchRequest, VectorIndex};

    fn steered(recall_at: impl Fn(usize) -> f64, samples: usize) -> Recall {
        let recall = Recall::new(&Tuning { effort: 64, recall_floor: Some(0.99), ..Tuning::default() });
        for _ in 0..samples {
            recall.add(recall_at(recall.effort()));
        }
        recall
    }

    #[test]
    fn effort_rises_until_the_floor_holds_and_falls_while_there_is_room() {
        // A graph that needs an effort of 200 for 0.99.
        let needs = |effort: usize| if effort >= 200 { 0.993 } else { 0.97 };
        let rising = steered(needs, 2000);
        assert!((200..300).contains(&rising.effort()), "{}", rising.effort());
        // One whose every search is complete with an effort of 40.
        let easy = |effort: usize| if effort >= 40 { 1.0 } else { 0.992 };
        let falling = steered(easy, 4000);
        assert!((30..=40).contains(&falling.effort()), "{}", falling.effort());
        let hopeless = steered(|_| 0.5, 5000);
        assert_eq!(hopeless.effort(), EFFORT_MAX);
        let estimate = rising.estimate().expect("there are samples");
        assert!((estimate.recall - 0.993).abs() < 1e-9 && estimate.samples == WINDOW, "{estimate:?}");
    }

    #[test]
    fn one_search_in_so_many_is_a_sample() {
        let share = |probe_share| {
            let recall = Recall::new(&Tuning { probe_share, ..Tuning::default() });
            (0..1000).filter(|_| recall.is_sample()).count()
        };
        assert_eq!((share(0.01), share(1.0), share(0.0)), (10, 1000, 0));
    }

    #[test]
    fn what_is_queued_when_the_index_closes_is_not_answered() {
        let folder = tempfile::tempdir().expect("a folder");
        let tuning = Tuning { exact_up_to: 10, probe_share: 1.0, ..Tuning::default() };
        let options = OpenOptions { create: true, tuning, ..OpenOptions::new(2, "model") };
        let index = EmbeddedIndex::open(folder.path(), options).expect("opens");
        let item = |number: u16| {
            let angle = f32::from(number) / 100.0;
            let (id, vector) = (number.to_string(), vec![angle.cos(), angle.sin()]);
            Item { id, product_id: "p".into(), vector, ..Item::default() }
        };
        index.upsert((0..100).map(item).collect()).expect("writes");
        index.settle();
        let query = vec![1.0, 0.0];
        let request = SearchRequest::new(query.clone());
        let question = Question { query, request, excluded_rows: Vec::new(), excluded_products: Vec::new() };
        let shared = Arc::clone(&index.shared);
        // While this is held no sample is taken: one may be begun, and the others wait in the queue.
        let held = shared.writing.lock();
        for _ in 0..=QUEUE {
            index.prober.note(&shared.recall, &question);
        }
        // As the maintainer does when the index is dropped.
        shared.closing.store(true, Ordering::Relaxed);
        drop(held);
        drop(index);
        let samples = shared.recall.estimate().map_or(0, |estimate| estimate.samples);
        assert!(samples <= 1, "{samples} samples were taken of an index that closes");
    }
}
