//! Searching: from a request to hits.

use serde::{Deserialize, Serialize};

use super::{EmbeddedIndex, Shared};
use crate::{
    Example, Filter, Hit, IndexError, Item, SearchRequest,
    memory::{Question, Scored},
    store::Record,
};

/// Times that a search is answered anew because something was written between its parts.
const RETRIES: usize = 3;

/// A stored vector near a query, by the number of its row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// Counts the upserts of the store, from 0.
    pub row: u64,
    /// Cosine similarity with the query.
    pub score: f32,
}

/// The best slots after the offset, with their row numbers.
pub(super) type Found = (Vec<Scored>, Vec<u64>);

impl EmbeddedIndex {
    /// The nearest of each request without what the store says about them: what the search itself costs.
    ///
    /// # Errors
    /// As [`VectorIndex::search_many`](crate::VectorIndex::search_many).
    pub fn nearest(&self, requests: &[SearchRequest]) -> Result<Vec<Vec<Nearest>>, IndexError> {
        let questions: Vec<Question> =
            requests.iter().map(|request| self.shared.question(request)).collect::<Result<_, _>>()?;
        let found = questions
            .chunks(super::batch::TOGETHER)
            .flat_map(|some| self.shared.find_together(&some.iter().collect::<Vec<_>>()));
        let nearest = |(scored, row): (Scored, u64)| Nearest { row, score: scored.score };
        Ok(found.map(|(scored, rows)| scored.into_iter().zip(rows).map(nearest).collect()).collect())
    }

    pub(super) fn answer(&self, request: &SearchRequest) -> Result<Vec<Hit>, IndexError> {
        let question = self.shared.question(request)?;
        let found = self.shared.find(&question);
        self.note(&question);
        self.shared.hits(&question, found)
    }

    pub(super) fn answer_many(&self, requests: &[SearchRequest]) -> Result<Vec<Vec<Hit>>, IndexError> {
        let questions: Vec<Question> =
            requests.iter().map(|request| self.shared.question(request)).collect::<Result<_, _>>()?;
        let mut answers = Vec::with_capacity(questions.len());
        for some in questions.chunks(super::batch::TOGETHER) {
            let found = self.shared.find_together(&some.iter().collect::<Vec<_>>());
            for (question, found) in some.iter().zip(found) {
                self.note(question);
                answers.push(self.shared.hits(question, found)?);
            }
        }
        Ok(answers)
    }
}

impl EmbeddedIndex {
    fn note(&self, question: &Question) {
        if !self.shared.memory.read().is_exact(question) {
            self.prober.note(&self.shared.recall, question);
        }
    }
}

impl Shared {
    /// Makes a request ready: its examples become one vector, and its filter finds its columns.
    fn question(&self, request: &SearchRequest) -> Result<Question, IndexError> {
        let (mut excluded_rows, mut excluded_products) = (Vec::new(), Vec::new());
        let query = request.query(self.options.dim, |example| match example {
            Example::Vector(vector) => Ok(vec![vector.clone()]),
            Example::Item(id) => {
                let found = self.store.find(id)?;
                let (row, item) = found.ok_or_else(|| IndexError::NoSuchItem { id: id.clone() })?;
                if request.exclude_examples {
                    excluded_rows.push(row);
                    // By name: memory may not know this row yet, or not any more.
                    excluded_products.extend(request.group_by_product.then_some(item.product_id));
                }
                Ok(vec![item.vector])
            }
            Example::Product(id) => {
                let items = self.items_of_product(id)?;
                if items.is_empty() {
                    return Err(IndexError::NoSuchProduct { id: id.clone() });
                }
                excluded_products.extend(request.exclude_examples.then(|| id.clone()));
                Ok(items.into_iter().map(|item| item.vector).collect())
            }
        })?;
        if let Some(filter) = &request.filter {
            self.ensure_columns(filter)?;
        }
        Ok(Question { query, request: request.clone(), excluded_rows, excluded_products })
    }

    /// The items of a product, oldest first.
    pub(super) fn items_of_product(&self, id: &str) -> Result<Vec<Item>, IndexError> {
        let read = || {
            let rows = self.memory.read().rows_of_product(id);
            let items = self.store.items(&rows)?;
            Ok::<_, IndexError>((items.len() == rows.len(), items))
        };
        let (is_whole, items) = read()?;
        if is_whole {
            return Ok(items);
        }
        // Some were replaced or deleted on disk before memory heard of it. While nobody writes, the two agree.
        let _nobody_writes = self.writing.lock();
        Ok(read()?.1)
    }

    fn ensure_columns(&self, filter: &Filter) -> Result<(), IndexError> {
        if self.memory.read().missing_columns(filter).is_empty() {
            return Ok(());
        }
        // Nothing is written meanwhile, so that store and memory agree; searches go on.
        let _guard = self.writing.lock();
        let built = {
            let memory = self.memory.read();
            let missing = memory.missing_columns(filter);
            if missing.is_empty() {
                return Ok(());
            }
            memory.build_columns(&self.store, missing)?
        };
        self.memory.write().insert_columns(built);
        Ok(())
    }

    /// Answers a question, together with others that are asked at the same time.
    fn find(&self, question: &Question) -> Found {
        if self.memory.read().is_exact(question) {
            self.batcher.run(question, |questions| self.find_together(questions))
        } else {
            self.find_together(&[question]).pop().unwrap_or_default()
        }
    }

    fn find_together(&self, questions: &[&Question]) -> Vec<Found> {
        let memory = self.memory.read();
        let found = memory.search_many(questions, self.recall.effort()).into_iter().zip(questions);
        found
            .map(|(mut found, question)| {
                found.drain(..question.request.offset.min(found.len()));
                let rows = memory.row_numbers(&found);
                (found, rows)
            })
            .collect()
    }

    /// The hits that were found, with what the store says about them.
    fn hits(&self, question: &Question, found: Found) -> Result<Vec<Hit>, IndexError> {
        let (mut scored, rows) = found;
        let mut records = self.records(question, &rows)?;
        for _ in 0..RETRIES {
            if records.iter().all(Option::is_some) {
                break;
            }
            // A hit was deleted on disk before memory heard of it, or an example was replaced after the question was made of it.
            // Once the writer is done, memory has heard.
            drop(self.writing.lock());
            let question = self.question(&question.request)?;
            let rows;
            (scored, rows) = self.find(&question);
            records = self.records(&question, &rows)?;
        }
        let found = scored.into_iter().zip(records);
        Ok(found.filter_map(|(scored, record)| Some(hit(scored, record?))).collect())
    }

    /// The records of what was found; `None` for rows that are gone, and for examples that are to be left out: one that was
    /// replaced meanwhile is found under its new row.
    fn records(&self, question: &Question, rows: &[u64]) -> Result<Vec<Option<Record>>, IndexError> {
        let mut records = self.store.records(rows)?;
        for record in &mut records {
            if record.as_ref().is_some_and(|record| question.leaves_out(&record.id)) {
                *record = None;
            }
        }
        Ok(records)
    }
}

fn hit(scored: Scored, record: Record) -> Hit {
    let Record { id: item_id, product_id, metadata } = record;
    Hit { item_id, product_id, score: scored.score, metadata }
}
