//! The measurement itself: every contender at every effort, in turns.

use std::path::{Path, PathBuf};

use dfml_index::IndexError;

use super::{
    Data, DataError, Ours, Peer, PeerError, Truth,
    ours::Pass,
    report::{Contender, ExactFigures, Growth, IndexBench, Point, TARGETS, qps_at},
};
use crate::npy::{self, NpyError};

/// Efforts that are tried.
const EFFORTS: [usize; 14] = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 896];
/// A contender that has reached this recall is not tried with more effort.
const ENOUGH: f64 = 0.9995;
/// Queries of an exact measurement, which is slow; and how many go in one call.
const EXACT_QUERIES: usize = 200;
const EXACT_BATCHES: [usize; 2] = [1, 8];
/// Name of the peer whose exact search ours is compared with.
const FLAT: &str = "faiss-flat";

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Neighbours per query.
    pub k: usize,
    /// Links per node (`M`).
    pub links: usize,
    /// Effort of building (`ef_construction`).
    pub build_effort: usize,
    /// Rounds; the median counts.
    pub rounds: usize,
    /// Peers, by their names in [`PEERS`](super::PEERS).
    pub against: Vec<String>,
    /// Python with the peers' packages.
    pub python: PathBuf,
}

/// The measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Ours.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A peer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The vectors.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file between here and the peers.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// A temporary folder.
    #[error("temporary folder: {0}")]
    Temporary(std::io::Error),
}

/// Measures everything; `note` is told what is being done.
///
/// # Errors
/// [`SweepError`].
pub fn run(data: &Data, plan: &Plan, mut note: impl FnMut(&str)) -> Result<IndexBench, SweepError> {
    let folder = tempfile::tempdir().map_err(SweepError::Temporary)?;
    let (vectors, queries) = (folder.path().join("vectors.npy"), folder.path().join("queries.npy"));
    npy::write(&vectors, data.dim, &data.vectors)?;
    npy::write(&queries, data.dim, &data.queries)?;
    note("the true neighbours");
    let truth = Truth::of(data, plan.k);
    note("building dfml");
    let ours = Ours::build(data, plan.links, plan.build_effort, true)?;
    let (ours, mut own) = ours.reopen()?;
    let mut peers = Vec::new();
    for name in plan.against.iter().filter(|name| *name != FLAT) {
        note(&format!("building {name}"));
        let mut peer = Peer::start(&plan.python, name)?;
        let mut figures = peer.build(&vectors, plan.links, plan.build_effort)?;
        peer.store(data.count(), &mut figures)?;
        peers.push((peer, figures, true));
    }
    let mut own_open = true;
    for effort in EFFORTS {
        note(&format!("effort {effort}"));
        let mut passes: Vec<Vec<Pass>> = (0..=peers.len()).map(|_| Vec::new()).collect();
        for _ in 0..plan.rounds.max(1) {
            if own_open {
                passes[0].push(ours.nearest(data, plan.k, Some(effort), 1)?);
            }
            for ((peer, _, open), passes) in peers.iter_mut().zip(&mut passes[1..]) {
                if *open {
                    passes.push(peer.search(&queries, plan.k, effort, data.query_count())?);
                }
            }
        }
        let mut passes = passes.into_iter();
        if let Some(passes) = passes.next().filter(|passes| !passes.is_empty()) {
            own_open = add_point(&mut own, data, &truth, effort, &passes);
        }
        for ((_, figures, open), passes) in peers.iter_mut().zip(passes) {
            if !passes.is_empty() {
                *open = add_point(figures, data, &truth, effort, &passes);
            }
        }
    }
    own.interpolate();
    let mut full_search_qps = std::collections::BTreeMap::new();
    for target in TARGETS {
        if let Some(point) = own.points.iter().find(|point| point.recall >= target) {
            let seconds = ours.full(data, plan.k, Some(point.effort))?;
            full_search_qps.insert(target.to_string(), data.query_count() as f64 / seconds);
        }
    }
    note("exact searches");
    let exact = exact(&ours, data, plan, folder.path(), &vectors)?;
    let mut contenders = vec![own];
    contenders.extend(peers.into_iter().map(|(_, mut figures, _)| {
        figures.interpolate();
        figures
    }));
    let mut bench = IndexBench {
        data: data.name.clone(),
        vectors: data.count(),
        dim: data.dim,
        queries: data.query_count(),
        k: plan.k,
        links: plan.links,
        build_effort: plan.build_effort,
        rounds: plan.rounds,
        kernel: ours.kernel(),
        contenders,
        exact,
        full_search_qps,
        ratios: Default::default(),
    };
    bench.compare();
    Ok(bench)
}

/// Takes in the rounds at one effort; false once there is no more to win.
fn add_point(figures: &mut Contender, data: &Data, truth: &Truth, effort: usize, passes: &[Pass]) -> bool {
    let mut seconds: Vec<f64> = passes.iter().map(|pass| pass.cpu_seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
    let recall = passes.first().map_or(0.0, |pass| truth.recall(data, &pass.found));
    figures.points.push(Point { effort, recall, qps: data.query_count() as f64 / median });
    recall < ENOUGH
}

fn exact(
    ours: &Ours,
    data: &Data,
    plan: &Plan,
    folder: &Path,
    vectors: &Path,
) -> Result<Vec<ExactFigures>, SweepError> {
    let count = data.query_count().min(EXACT_QUERIES);
    let few = Data { queries: data.queries[..count * data.dim].to_vec(), ..data.clone() };
    let truth = Truth::of(&few, plan.k);
    let queries = folder.join("exact-queries.npy");
    npy::write(&queries, few.dim, &few.queries)?;
    let mut flat = match plan.against.iter().any(|name| name == FLAT) {
        true => {
            let mut peer = Peer::start(&plan.python, FLAT)?;
            peer.build(vectors, plan.links, plan.build_effort)?;
            Some(peer)
        }
        false => None,
    };
    let qps = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        count as f64 / seconds[seconds.len() / 2]
    };
    let mut figures = Vec::new();
    for batch in EXACT_BATCHES {
        let (mut own, mut other, mut recall) = (Vec::new(), Vec::new(), 1.0f64);
        for _ in 0..plan.rounds.max(1) {
            let pass = ours.nearest(&few, plan.k, None, batch)?;
            recall = recall.min(truth.recall(&few, &pass.found));
            own.push(pass.cpu_seconds);
            if let Some(flat) = &mut flat {
                other.push(flat.search(&queries, plan.k, 0, batch)?.cpu_seconds);
            }
        }
        figures.push(ExactFigures {
            batch,
            ours_qps: qps(own),
            ours_recall: recall,
            faiss_flat_qps: flat.is_some().then(|| qps(other)),
        });
    }
    Ok(figures)
}

/// Speed and memory of this program at several sizes.
///
/// # Errors
/// [`SweepError`].
pub fn grow(
    sizes: &[usize],
    dim: usize,
    queries: usize,
    plan: &Plan,
    mut note: impl FnMut(&str),
) -> Result<Vec<Growth>, SweepError> {
    let mut growth = Vec::new();
    for &size in sizes {
        note(&format!("{size} vectors"));
        let data = Data::synthetic(size, queries, dim);
        let truth = Truth::of(&data, plan.k);
        let (ours, mut own) = Ours::build(&data, plan.links, plan.build_effort, true)?.reopen()?;
        for effort in EFFORTS {
            let mut passes = Vec::new();
            for _ in 0..plan.rounds.max(1) {
                passes.push(ours.nearest(&data, plan.k, Some(effort), 1)?);
            }
            if !add_point(&mut own, &data, &truth, effort, &passes) {
                break;
            }
        }
        let few = Data { queries: data.queries[..queries.min(EXACT_QUERIES) * dim].to_vec(), ..data.clone() };
        let exact = ours.nearest(&few, plan.k, None, 1)?.cpu_seconds / few.query_count().max(1) as f64;
        growth.push(Growth {
            vectors: size,
            graph_ms: qps_at(&own.points, 0.99).map(|qps| 1e3 / qps),
            exact_ms: 1e3 * exact,
            memory_bytes_per_vector: own.memory_bytes_per_vector.unwrap_or(f64::NAN),
            load_seconds: own.load_seconds.unwrap_or(f64::NAN),
            build_cpu_seconds: own.build_cpu_seconds.unwrap_or(f64::NAN),
        });
    }
    Ok(growth)
}

impl Ours {
    fn kernel(&self) -> String {
        self.index().info().kernel
    }
}
