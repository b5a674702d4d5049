//! Answering from the graph: the nearest of what it covers, and every slot that is newer than it.

use std::{cell::RefCell, collections::HashSet};

use super::{Bits, Memory, QueryCodes, Question, Scored, exact::Exact, top::Top};
use crate::graph::{Graph, Scratch, Walk};

/// Time to follow the links of one node, in comparisons of a scan: the rows that a scan reads lie in line.
const NODE_COST: f64 = 64.0;
/// How much wider a search becomes that found too little.
const WIDER: usize = 4;
/// Share of a code's error bound that is allowed for when candidates are scored exactly. The bound is for the worst direction of
/// the error, which is about 20 times its usual size in a few hundred dimensions.
const SLACK: f32 = 0.25;
/// Vectors fetched ahead of the one that is scored.
const AHEAD: usize = 3;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Memory {
    /// The best slots by way of the graph; `None` if there is none, or comparing with every admitted slot (`count` of them) is the better way.
    pub(super) fn search_graph(
        &self,
        question: &Question,
        effort: usize,
        admitted: &Bits,
        count: usize,
    ) -> Option<Vec<Scored>> {
        let graph = self.graph.as_ref().filter(|_| !question.request.exact)?;
        let wanted = question.wanted(count);
        // Of the slots that a walk finds, as many are admitted as of all.
        let share = count as f64 / self.rows.len().max(1) as f64;
        let effort = question.request.effort.unwrap_or(effort).max(wanted);
        let mut effort = (effort as f64 / share.max(1e-9)).min(self.rows.len() as f64).ceil() as usize;
        let query = QueryCodes::new(&question.query);
        while effort as f64 * NODE_COST < count as f64 {
            if let Some(found) = self.walk(graph, question, &query, effort, wanted, admitted) {
                return Some(found);
            }
            effort = effort.saturating_mul(WIDER);
        }
        None
    }

    /// One walk with one effort; `None` if it met fewer admitted slots (or products) than are wanted.
    fn walk(
        &self,
        graph: &Graph,
        question: &Question,
        query: &QueryCodes,
        effort: usize,
        wanted: usize,
        admitted: &Bits,
    ) -> Option<Vec<Scored>> {
        let mut top = self.top(question);
        let by_product = question.request.group_by_product;
        SCRATCH
            .with_borrow_mut(|scratch| {
                let walk = Walk { graph, rows: &self.rows, query, vector: &question.query };
                let met = walk.nearest(effort, scratch);
                let met_admitted = || met.iter().filter(|&&(_, slot)| admitted.contains(slot));
                let enough = if by_product {
                    let products: HashSet<u32> =
                        met_admitted().map(|&(_, slot)| self.products.of(slot)).collect();
                    products.len() >= wanted.min(self.products.live_count())
                } else {
                    met_admitted().count() >= wanted
                };
                if !enough && met.len() < graph.len() {
                    return false;
                }
                let hopeful = |&(estimate, slot): &(f32, u32), top: &Top| {
                    admitted.contains(slot)
                        && estimate + SLACK * query.bound(self.rows.coding(slot)) >= top.floor()
                };
                met.iter().for_each(|&(_, slot)| self.rows.prefetch_coding(slot));
                for (place, found) in met.iter().enumerate() {
                    if let Some(soon) = met.get(place + AHEAD).filter(|soon| hopeful(soon, &top)) {
                        self.rows.prefetch_vector(soon.1);
                    }
                    if hopeful(found, &top) {
                        let slot = found.1;
                        top.offer(slot, self.products.of(slot), self.rows.score(&question.query, slot));
                    }
                }
                true
            })
            .then(|| {
                self.scan_fresh(graph, question, admitted, &mut top);
                top.finish()
            })
    }

    /// Compares with every slot that the graph does not cover.
    fn scan_fresh(&self, graph: &Graph, question: &Question, admitted: &Bits, top: &mut Top) {
        if graph.len() == self.rows.len() {
            return;
        }
        let mut exact = Exact::new(&self.rows, &self.products, &question.query, top);
        let (first, covered) = (graph.len() / 64, graph.len() % 64);
        for word in first..admitted.words() {
            let mask = if word == first { u64::MAX << covered } else { u64::MAX };
            exact.scan(word, admitted.word(word) & mask);
        }
        exact.finish(top);
    }
}
