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
    /// Products to leave out.
    pub(crate) excluded_products: Vec<String>,
}

impl Question {
    /// Whether this item is an example that is to be left out, whichever row it has by now.
    pub(crate) fn leaves_out(&self, item_id: &str) -> bool {
        let is_it = |example: &Example| matches!(example, Example::Item(id) if id == item_id);
        let request = &self.request;
        request.exclude_examples && request.positive.iter().chain(&request.negative).any(is_it)
    }

    /// Hits that are looked for, those left out by the offset included.
    pub(super) fn wanted(&self, live: usize) -> usize {
        self.request.k.saturating_add(self.request.offset).min(live)
    }
}
