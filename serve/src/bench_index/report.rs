//! What was measured, and the table of it.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

/// Recalls at which the contenders are compared.
pub(super) const TARGETS: [f64; 3] = [0.95, 0.99, 0.999];

/// One library.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Contender {
    /// Its name.
    pub name: String,
    /// Processor time of building its index, in seconds.
    pub build_cpu_seconds: Option<f64>,
    /// Time on the clock of building its index, in seconds.
    pub build_seconds: Option<f64>,
    /// Time on the clock until a stored index is ready to search, in seconds.
    pub load_seconds: Option<f64>,
    /// Memory per vector, in bytes: of ours what it counts itself, of others the size of what they write.
    pub memory_bytes_per_vector: Option<f64>,
    /// Bytes on disk per vector.
    pub disk_bytes_per_vector: Option<f64>,
    /// Effort, recall and queries per second of processor time.
    pub points: Vec<Point>,
    /// Queries per second at each recall of the comparison, between the nearest points; absent where it does not get there.
    pub qps_at_recall: BTreeMap<String, f64>,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Effort (`ef`).
    pub effort: usize,
    /// Mean recall, 0..=1.
    pub recall: f64,
    /// Queries per second of processor time: the median over the rounds.
    pub qps: f64,
}

/// Searches that compare with everything.
#[derive(Clone, Debug, Serialize)]
pub struct ExactFigures {
    /// Queries in one call.
    pub batch: usize,
    /// Queries per second of processor time of this program.
    pub ours_qps: f64,
    /// Its recall, which must be 1.
    pub ours_recall: f64,
    /// Of faiss Flat; absent if it was not asked for.
    pub faiss_flat_qps: Option<f64>,
}

/// Everything about one set of vectors.
#[derive(Clone, Debug, Serialize)]
pub struct IndexBench {
    /// The vectors.
    pub data: String,
    /// Number of vectors.
    pub vectors: usize,
    /// Their length.
    pub dim: usize,
    /// Number of queries.
    pub queries: usize,
    /// Neighbours per query.
    pub k: usize,
    /// Links per node and effort of building, the same for all.
    pub links: usize,
    /// Effort of building.
    pub build_effort: usize,
    /// Rounds, of which the median counts.
    pub rounds: usize,
    /// Instruction set of this program's inner loops.
    pub kernel: String,
    /// This program first.
    pub contenders: Vec<Contender>,
    /// Exact searches, one by one and in batches.
    pub exact: Vec<ExactFigures>,
    /// Queries per second of processor time with the ids and metadata of every hit, by recall of the comparison.
    pub full_search_qps: BTreeMap<String, f64>,
    /// Quotients: ours over the best peer.
    pub ratios: BTreeMap<String, f64>,
}

impl Contender {
    /// Works out the comparison from the points.
    pub(super) fn interpolate(&mut self) {
        self.points.sort_by_key(|point| point.effort);
        for target in TARGETS {
            if let Some(qps) = qps_at(&self.points, target) {
                self.qps_at_recall.insert(target.to_string(), qps);
            }
        }
    }
}

/// Best queries per second with at least this recall; between two points, on the line through recall and log of speed.
pub(super) fn qps_at(points: &[Point], target: f64) -> Option<f64> {
    let reached = points.iter().filter(|point| point.recall >= target).map(|point| point.qps);
    let between = points.windows(2).filter_map(|pair| {
        let [a, b] = pair else { return None };
        if !(a.recall < target && b.recall > target) {
            return None;
        }
        let share = (target - a.recall) / (b.recall - a.recall);
        Some((a.qps.ln() + share * (b.qps.ln() - a.qps.ln())).exp())
    });
    reached.chain(between).reduce(f64::max)
}

impl IndexBench {
    /// Works out the quotients.
    pub(super) fn compare(&mut self) {
        let Some((ours, peers)) = self.contenders.split_first() else { return };
        for target in TARGETS {
            let key = target.to_string();
            let best = peers.iter().filter_map(|peer| peer.qps_at_recall.get(&key)).copied().reduce(f64::max);
            if let (Some(ours), Some(best)) = (ours.qps_at_recall.get(&key), best) {
                self.ratios.insert(format!("qps_at_recall_{key}_over_best_peer"), ours / best);
            }
        }
        let best_build = peers.iter().filter_map(|peer| peer.build_cpu_seconds).reduce(f64::min);
        if let (Some(ours), Some(best)) = (ours.build_cpu_seconds, best_build) {
            self.ratios.insert("build_cpu_seconds_over_best_peer".into(), ours / best);
        }
        for exact in &self.exact {
            if let Some(flat) = exact.faiss_flat_qps {
                let key = format!("exact_qps_over_faiss_flat_batch_{}", exact.batch);
                self.ratios.insert(key, exact.ours_qps / flat);
            }
        }
    }
}

/// How speed and memory grow with the number of vectors.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// Number of vectors.
    pub vectors: usize,
    /// Milliseconds of processor time per search at recall 0.99, as the index chooses to search at this size.
    pub graph_ms: Option<f64>,
    /// Milliseconds of processor time per exact search.
    pub exact_ms: f64,
    /// Memory per vector, in bytes.
    pub memory_bytes_per_vector: f64,
    /// Seconds until a stored index is ready.
    pub load_seconds: f64,
    /// Processor time of building the graph, in seconds.
    pub build_cpu_seconds: f64,
}

/// The figures as a table in Markdown.
pub fn table(bench: &IndexBench) -> String {
    let mut text = String::new();
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{}: {} queries, k = {}, M = {}, ef_construction = {}, kernel {}\n",
        bench.data, bench.queries, bench.k, bench.links, bench.build_effort, bench.kernel
    );
    text.push_str("| | QPS at recall 0.95 | 0.99 | 0.999 | build CPU s | bytes/vector | load s |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for contender in &bench.contenders {
        let qps = |target: f64| number(contender.qps_at_recall.get(&target.to_string()).copied(), 0);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            contender.name,
            qps(TARGETS[0]),
            qps(TARGETS[1]),
            qps(TARGETS[2]),
            number(contender.build_cpu_seconds, 1),
            number(contender.memory_bytes_per_vector, 0),
            number(contender.load_seconds, 2)
        );
    }
    for exact in &bench.exact {
        let flat = number(exact.faiss_flat_qps, 0);
        let _ = writeln!(
            text,
            "\nExact, {} at a time: dfml {:.0} QPS (recall {:.4}), faiss Flat {flat}",
            exact.batch, exact.ours_qps, exact.ours_recall
        );
    }
    for (target, qps) in &bench.full_search_qps {
        let _ = writeln!(text, "\nWith ids and metadata of every hit, at recall {target}: dfml {qps:.0} QPS");
    }
    for (name, ratio) in &bench.ratios {
        let _ = writeln!(text, "\n{name}: {ratio:.2}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(effort: usize, recall: f64, qps: f64) -> Point {
        Point { effort, recall, qps }
    }

    #[test]
    fn speed_at_a_recall_lies_between_the_points_around_it() {
        let points = [point(10, 0.90, 1000.0), point(20, 0.98, 400.0), point(40, 1.0, 100.0)];
        // Half way from 0.98 to 1.0, on a line in the logarithm: sqrt(400 * 100).
        assert!((qps_at(&points, 0.99).expect("reached") - 200.0).abs() < 1e-9);
        assert_eq!(qps_at(&points, 0.98), Some(400.0));
        assert_eq!(qps_at(&points[..2], 0.99), None);
    }

    #[test]
    fn ratios_are_over_the_best_peer() {
        let contender = |name: &str, qps: f64, build: f64| Contender {
            name: name.into(),
            build_cpu_seconds: Some(build),
            qps_at_recall: [("0.99".to_owned(), qps)].into(),
            ..Contender::default()
        };
        let mut bench = IndexBench {
            data: "test".into(),
            vectors: 1,
            dim: 1,
            queries: 1,
            k: 1,
            links: 1,
            build_effort: 1,
            rounds: 1,
            kernel: "scalar".into(),
            contenders: vec![
                contender("dfml", 300.0, 8.0),
                contender("a", 100.0, 4.0),
                contender("b", 150.0, 9.0),
            ],
            exact: vec![ExactFigures {
                batch: 1,
                ours_qps: 30.0,
                ours_recall: 1.0,
                faiss_flat_qps: Some(10.0),
            }],
            full_search_qps: BTreeMap::new(),
            ratios: BTreeMap::new(),
        };
        bench.compare();
        assert_eq!(bench.ratios["qps_at_recall_0.99_over_best_peer"], 2.0);
        assert_eq!(bench.ratios["build_cpu_seconds_over_best_peer"], 2.0);
        assert_eq!(bench.ratios["exact_qps_over_faiss_flat_batch_1"], 3.0);
        assert!(!bench.ratios.contains_key("qps_at_recall_0.95_over_best_peer"));
        assert!(table(&bench).contains("| dfml | - | 300 | - | 8.0 | - | - |"));
    }
}
