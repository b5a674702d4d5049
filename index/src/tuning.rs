//! How an embedded index searches and when it rebuilds.

use serde::{Deserialize, Serialize};

use crate::IndexError;

/// What inserts the points of a graph. The graphs are searched in the same way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphBuilder {
    /// Our own: in batches, on all the threads that it is given; the same graph whatever their number.
    #[default]
    Batches,
    /// The crate `hnsw_rs`, one point at a time on one thread: the well-known algorithm to compare with.
    HnswRs,
}

/// Settings of an embedded index. None of them changes what is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// Up to this many items every search is exact; above it a graph is kept.
    pub exact_up_to: usize,
    /// Links per item in the upper layers of the graph (`M`), 4..=64; twice as many in the lowest.
    pub links: usize,
    /// Candidates looked at for each item when the graph is built (`ef_construction`), 16..=2000.
    pub build_effort: usize,
    /// What builds the graph.
    pub builder: GraphBuilder,
    /// Threads that build the graph; half of the processors if not given.
    pub build_threads: Option<usize>,
    /// Effort (`ef`) that graph searches start with.
    pub effort: usize,
    /// Effort is raised while the measured recall is below this, and lowered while it is well above, 0..1. `None` leaves it alone.
    pub recall_floor: Option<f64>,
    /// Share of graph searches that is answered exactly too, in the background, to measure recall, 0..=1.
    pub probe_share: f64,
    /// A new generation is built when deleted items and items outside the graph are this share of all, above 0.
    pub rebuild_share: f64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            exact_up_to: 100_000,
            links: 16,
            build_effort: 128,
            builder: GraphBuilder::default(),
            build_threads: None,
            effort: 64,
            recall_floor: Some(0.99),
            probe_share: 0.01,
            rebuild_share: 0.2,
        }
    }
}

impl Tuning {
    pub(crate) fn check(&self) -> Result<(), IndexError> {
        let within = |name: &str, good: bool, range: &str| {
            let reason = format!("setting {name} is out of its range {range}");
            if good { Ok(()) } else { Err(IndexError::InvalidRequest { reason }) }
        };
        within("links", (4..=64).contains(&self.links), "4..=64")?;
        within("build_effort", (16..=2000).contains(&self.build_effort), "16..=2000")?;
        within("build_threads", self.build_threads != Some(0), "1..")?;
        within("effort", (1..=100_000).contains(&self.effort), "1..=100000")?;
        within("recall_floor", self.recall_floor.is_none_or(|floor| (0.0..1.0).contains(&floor)), "0..1")?;
        within("probe_share", (0.0..=1.0).contains(&self.probe_share), "0..=1")?;
        within("rebuild_share", self.rebuild_share > 0.0, "above 0")
    }
}
