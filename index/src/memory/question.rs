//! A search request made ready for memory: one unit vector, and what to leave out.

use crate::{Example, SearchRequest};

/// What memory is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Unit vector, `[dim]`.
    pub(crate) query: Vec<f32>,
    pub(crate) request: SearchRequest,
    /// Rows of items to leave out.
    pub(crate) excluded_rows: Vec<u64>,
}

impl Question {
    /// Products to leave out.
    pub(super) fn excluded_products(&self) -> impl Iterator<Item = &str> {
        let examples = self.request.positive.iter().chain(&self.request.negative);
        let on = self.request.exclude_examples;
        examples.filter_map(move |example| match example {
            Example::Product(id) if on => Some(id.as_str()),
            Example::Product(_) | Example::Item(_) | Example::Vector(_) => None,
        })
    }

    /// Hits that are looked for, those left out by the offset included.
    pub(super) fn wanted(&self, live: usize) -> usize {
        self.request.k.saturating_add(self.request.offset).min(live)
    }
}
