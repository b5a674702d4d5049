//! Searches that are asked at the same time share one pass over the codes.
//!
//! As many passes run at once as there are processors. A search that comes while all of them are busy waits; whichever pass
//! ends first hands over to one of the waiting, which takes the others along. So nobody waits for company, and under load
//! each stretch of memory is fetched once for many searches.

use std::{num::NonZero, sync::Arc, thread};

use parking_lot::{Condvar, Mutex};

use super::search::Found;
use crate::memory::Question;

/// Searches in one pass at most.
pub(super) const TOGETHER: usize = 16;

pub(super) struct Batcher {
    state: Mutex<State>,
    passes_max: usize,
}

#[derive(Default)]
struct State {
    passes: usize,
    waiting: Vec<Arc<Ticket>>,
}

/// A search that waits.
struct Ticket {
    question: Question,
    turn: Mutex<Turn>,
    changed: Condvar,
}

enum Turn {
    Wait,
    /// It is to run the next pass, or to run alone because the pass that it was in came to nothing.
    Lead,
    Done(Found),
}

impl Ticket {
    fn set(&self, turn: Turn) {
        *self.turn.lock() = turn;
        self.changed.notify_one();
    }

    /// Waits for an answer, or to be the leader (`None`).
    fn wait(&self) -> Option<Found> {
        let mut turn = self.turn.lock();
        loop {
            match std::mem::replace(&mut *turn, Turn::Wait) {
                Turn::Wait => self.changed.wait(&mut turn),
                Turn::Lead => return None,
                Turn::Done(found) => return Some(found),
            }
        }
    }
}

impl Batcher {
    pub(super) fn new() -> Self {
        let passes_max = thread::available_parallelism().map_or(1, NonZero::get);
        Self { state: Mutex::new(State::default()), passes_max }
    }

    /// Answers a question with `search`, which answers many at once.
    pub(super) fn run(&self, question: &Question, search: impl Fn(&[&Question]) -> Vec<Found>) -> Found {
        let ticket = {
            let mut state = self.state.lock();
            if state.passes < self.passes_max {
                state.passes += 1;
                None
            } else {
                let ticket = Arc::new(Ticket {
                    question: question.clone(),
                    turn: Mutex::new(Turn::Wait),
                    changed: Condvar::new(),
                });
                state.waiting.push(Arc::clone(&ticket));
                Some(ticket)
            }
        };
        if let Some(found) = ticket.and_then(|ticket| ticket.wait()) {
            return found;
        }
        self.lead(question, search)
    }

    /// Runs a pass for this question and those that wait.
    fn lead(&self, question: &Question, search: impl Fn(&[&Question]) -> Vec<Found>) -> Found {
        let others: Vec<Arc<Ticket>> = {
            let mut state = self.state.lock();
            let count = state.waiting.len().min(TOGETHER - 1);
            state.waiting.drain(..count).collect()
        };
        let mut pass = Pass { batcher: self, others };
        let mut questions = vec![question];
        questions.extend(pass.others.iter().map(|ticket| &ticket.question));
        let mut found = search(&questions).into_iter();
        let own = found.next().unwrap_or_default();
        for (ticket, found) in pass.others.drain(..).zip(found) {
            ticket.set(Turn::Done(found));
        }
        own
    }
}

/// A pass under way. When it ends, in whatever way, the next in line takes over.
struct Pass<'a> {
    batcher: &'a Batcher,
    others: Vec<Arc<Ticket>>,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.batcher.state.lock();
        // The search has panicked: those that it took along are on their own.
        state.passes += self.others.len();
        self.others.drain(..).for_each(|ticket| ticket.set(Turn::Lead));
        match state.waiting.is_empty() {
            true => state.passes -= 1,
            false => state.waiting.remove(0).set(Turn::Lead),
        }
    }
}
