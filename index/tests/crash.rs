//! A process that writes is killed at random moments; what it was told is written is there afterwards.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use dfml_index::{EmbeddedIndex, Item, OpenOptions, SearchRequest, StoreReader, Tuning, VectorIndex};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const DIM: usize = 8;
const THREADS: usize = 4;
const IDS: u64 = 24;
const ROUNDS: usize = 200;
/// Set in the child process: the store's folder.
const CHILD_FOLDER: &str = "DFML_INDEX_CRASH_FOLDER";
/// Set in the child process: the first step of each thread, separated by commas.
const CHILD_STEPS: &str = "DFML_INDEX_CRASH_STEPS";

fn open(folder: &Path) -> EmbeddedIndex {
    // A low bound, so that a graph is built and saved while writes go on, and some of the kills hit that.
    let tuning =
        Tuning { exact_up_to: 30, build_effort: 16, links: 4, probe_share: 0.0, ..Tuning::default() };
    let options = OpenOptions { create: true, tuning, ..OpenOptions::new(DIM, "model") };
    EmbeddedIndex::open(folder, options).expect("opens")
}

/// Ids of items, with the step that wrote each.
type Contents = BTreeMap<String, u64>;

/// What a thread does in a step: deletes an item, or upserts a few.
enum Step {
    Delete(String),
    Upsert(Vec<String>),
}

fn step(thread: usize, number: u64) -> Step {
    let mut random = ChaCha8Rng::seed_from_u64(number * THREADS as u64 + thread as u64);
    let mut id = || format!("{thread}/{}", random.random_range(0..IDS));
    let first = id();
    if number % 4 == 3 { Step::Delete(first) } else { Step::Upsert(vec![first, id(), id()]) }
}

fn follow(contents: &mut Contents, thread: usize, number: u64) {
    match step(thread, number) {
        Step::Delete(id) => drop(contents.remove(&id)),
        Step::Upsert(ids) => contents.extend(ids.into_iter().map(|id| (id, number))),
    }
}

fn item(id: String, number: u64) -> Item {
    let mut vector = vec![0.0; DIM];
    vector[(number % DIM as u64) as usize] = 1.0;
    let metadata = json!({ "step": number }).as_object().cloned().expect("an object");
    Item { product_id: format!("product of {id}"), id, vector, metadata }
}

/// The body of the child process: writes until it is killed, and says on standard output what was acknowledged.
#[test]
#[ignore = "it is the body of the child process, not a test"]
fn child() {
    let Some(folder) = env::var_os(CHILD_FOLDER) else { return };
    let starts: Vec<u64> =
        env::var(CHILD_STEPS).expect("set").split(',').map(|n| n.parse().expect("a number")).collect();
    let index = open(Path::new(&folder));
    thread::scope(|scope| {
        for (thread, start) in starts.into_iter().enumerate() {
            let index = &index;
            scope.spawn(move || {
                for number in start.. {
                    match step(thread, number) {
                        Step::Delete(id) => drop(index.delete(&[id]).expect("deletes")),
                        Step::Upsert(ids) => {
                            index
                                .upsert(ids.into_iter().map(|id| item(id, number)).collect())
                                .expect("writes");
                        }
                    }
                    // Straight to the pipe: the test harness must not hold it back. One write of a short line is atomic.
                    let line = format!("ack {thread} {number}\n");
                    std::io::stderr().write_all(line.as_bytes()).expect("the parent listens");
                }
            });
        }
    });
}

/// Runs a child for a while and kills it. Returns the number of acknowledged steps of each thread.
fn run_child(folder: &Path, starts: &[u64], pause: Duration) -> Vec<u64> {
    let starts_text: Vec<String> = starts.iter().map(u64::to_string).collect();
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .env(CHILD_STEPS, starts_text.join(","))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let acknowledged = AtomicUsize::new(0);
    let mut done = starts.to_vec();
    thread::scope(|scope| {
        scope.spawn(|| {
            // The clock starts at the first acknowledgement: before that the child is opening its store.
            for _ in 0..6000 {
                if acknowledged.load(Ordering::Relaxed) > 0 {
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
            thread::sleep(pause);
            child.kill().expect("SIGKILL");
            child.wait().expect("it is dead");
        });
        for line in lines {
            let line = line.expect("reads");
            let words: Vec<&str> = line.split(' ').collect();
            let ["ack", thread, number] = words[..] else { panic!("the child says {line:?}") };
            let (thread, number): (usize, u64) =
                (thread.parse().expect("a number"), number.parse().expect("a number"));
            assert_eq!(done[thread], number);
            done[thread] = number + 1;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(acknowledged.load(Ordering::Relaxed) > 0, "the child never acknowledged anything");
    done
}

fn contents_of(index: &EmbeddedIndex, thread: usize) -> Contents {
    let items = index.page(None, usize::MAX).expect("reads").into_iter();
    items
        .filter(|item| item.id.starts_with(&format!("{thread}/")))
        .map(|found| {
            let number = found.metadata["step"].as_u64().expect("a number");
            assert_eq!(found, item(found.id.clone(), number), "an item is torn");
            (found.id, number)
        })
        .collect()
}

#[test]
fn acknowledged_writes_survive_sigkill() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut done = vec![0u64; THREADS];
    let mut expected = vec![Contents::new(); THREADS];
    for round in 0..ROUNDS {
        let before = done.clone();
        let pause = Duration::from_micros(random.random_range(0..40_000));
        done = run_child(folder.path(), &before, pause);
        // Every other round, so that repairs by readers and by writers are both met.
        let read = (round % 2 == 0).then(|| {
            let reader = StoreReader::open(folder.path()).expect("is read after a kill");
            reader.count().expect("reads")
        });
        let index = open(folder.path());
        assert!(read.is_none_or(|read| read == index.count()), "{read:?} items read");
        for thread in 0..THREADS {
            (before[thread]..done[thread]).for_each(|number| follow(&mut expected[thread], thread, number));
            let found = contents_of(&index, thread);
            if found != expected[thread] {
                // One write more may be there: it was under way and not acknowledged.
                follow(&mut expected[thread], thread, done[thread]);
                done[thread] += 1;
                assert_eq!(found, expected[thread], "round {round}, thread {thread}, {} steps", done[thread]);
            }
        }
        let all: usize = expected.iter().map(Contents::len).sum();
        assert_eq!(index.count(), all);
        let request = SearchRequest { k: usize::MAX, ..SearchRequest::new(vec![1.0; DIM]) };
        assert_eq!(index.search(&request).expect("searches").len(), all, "what is stored is found");
    }
    assert!(done.iter().sum::<u64>() > ROUNDS as u64, "the children wrote {done:?}");
}
