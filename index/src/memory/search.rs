//! Answering questions from memory.

use std::borrow::Cow;

use super::{Bits, Memory, Question, Scored, exact::Exact, top::Top};

impl Memory {
    /// Whether every slot has to be compared for this question.
    pub(crate) fn is_exact(&self, question: &Question) -> bool {
        self.graph.is_none() || question.request.exact
    }

    /// The best slots, best first: `offset + k` of them at most, those left out by `offset` included. `effort` is for graph
    /// searches that do not name their own.
    pub(crate) fn search(&self, question: &Question, effort: usize) -> Vec<Scored> {
        let admitted = self.admitted(question);
        let count = match &admitted {
            Cow::Borrowed(_) => self.live_count,
            Cow::Owned(some) => some.count(),
        };
        match self.search_graph(question, effort, &admitted, count) {
            Some(found) => found,
            None => self.scan(&[question], vec![admitted]).pop().unwrap_or_default(),
        }
    }

    /// The answers to several questions. Where every slot is compared, each stretch of codes is fetched from memory once for
    /// all of them.
    pub(crate) fn search_many(&self, questions: &[&Question], effort: usize) -> Vec<Vec<Scored>> {
        if questions.iter().all(|question| self.is_exact(question)) {
            self.scan(questions, questions.iter().map(|question| self.admitted(question)).collect())
        } else {
            questions.iter().map(|question| self.search(question, effort)).collect()
        }
    }

    /// Compares with every admitted slot.
    fn scan(&self, questions: &[&Question], admitted: Vec<Cow<'_, Bits>>) -> Vec<Vec<Scored>> {
        let mut running: Vec<(Cow<'_, Bits>, Exact<'_>, Top)> = questions
            .iter()
            .zip(admitted)
            .map(|(question, admitted)| {
                let top = self.top(question);
                (admitted, Exact::new(&self.rows, &self.products, &question.query, &top), top)
            })
            .collect();
        for word in 0..self.live.words() {
            for (admitted, exact, _) in &mut running {
                exact.scan(word, admitted.word(word));
            }
        }
        running
            .into_iter()
            .map(|(_, exact, mut top)| {
                exact.finish(&mut top);
                top.finish()
            })
            .collect()
    }

    pub(super) fn top(&self, question: &Question) -> Top {
        let request = &question.request;
        Top::new(question.wanted(self.live_count), request.threshold, request.group_by_product)
    }

    /// The live slots that a question lets through.
    fn admitted(&self, question: &Question) -> Cow<'_, Bits> {
        let mut admitted = match &question.request.filter {
            Some(filter) => {
                let slots = self.columns.select(filter, &self.products, self.rows.len());
                let mut bits = Bits::of(&slots, self.rows.len());
                bits.keep(&self.live);
                Cow::Owned(bits)
            }
            None => Cow::Borrowed(&self.live),
        };
        for slot in question.excluded_rows.iter().filter_map(|&row| self.rows.slot_of(row)) {
            admitted.to_mut().remove(slot);
        }
        for &slot in question.excluded_products.iter().flat_map(|id| self.products.slots_of(id)) {
            admitted.to_mut().remove(slot);
        }
        admitted
    }
}
