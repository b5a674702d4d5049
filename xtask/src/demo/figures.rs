//! What the demo measured: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::data::Extent;
use super::stage::Timing;

/// Figures of one model on one list of queries, as `dfml eval --json` writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Retrieval {
    /// What was searched with, and in what.
    pub(super) dataset: String,
    pub(super) queries: usize,
    pub(super) gallery: usize,
    /// Share of the queries with a match among the first k.
    pub(super) recall_at_k: BTreeMap<u32, f64>,
    pub(super) r_precision: f64,
    pub(super) map_at_r: f64,
}

#[derive(Deserialize)]
struct EvaluationFile {
    results: Vec<Retrieval>,
}

/// Reads what `dfml eval --json` wrote.
pub(super) fn read(path: &Path) -> Result<Vec<Retrieval>> {
    let file: EvaluationFile =
        serde_json::from_slice(&fs_err::read(path)?).with_context(|| path.display().to_string())?;
    Ok(file.results)
}

/// Figures of the model that one seed trained.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Trained {
    pub(super) seed: u64,
    pub(super) train_seconds: f64,
    pub(super) after: Vec<Retrieval>,
}

/// Everything that `--json` writes.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) cores: usize,
    pub(super) catalogue: String,
    pub(super) extent: Extent,
    /// Size of the model that is served.
    pub(super) model_bytes: u64,
    /// Size of the store that is served.
    pub(super) store_bytes: u64,
    pub(super) before: Vec<Retrieval>,
    pub(super) seeds: Vec<Trained>,
    pub(super) summary: Vec<Line>,
    pub(super) stages: Vec<Timing>,
}

/// One measure on one list of queries, before and after training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Line {
    pub(super) dataset: String,
    pub(super) queries: usize,
    pub(super) measure: &'static str,
    pub(super) before: f64,
    /// Mean over the seeds; `None` without training.
    pub(super) after: Option<f64>,
    /// Sample standard deviation over the seeds; `None` with fewer than two.
    pub(super) after_std: Option<f64>,
}

type Measure = (&'static str, fn(&Retrieval) -> Option<f64>);

const MEASURES: [Measure; 3] = [
    ("Recall@1", |retrieval| retrieval.recall_at_k.get(&1).copied()),
    ("Recall@10", |retrieval| retrieval.recall_at_k.get(&10).copied()),
    ("MAP@R", |retrieval| Some(retrieval.map_at_r)),
];

/// Lays the models' figures side by side.
pub(super) fn compare(before: &[Retrieval], seeds: &[Trained]) -> Vec<Line> {
    let mut lines = Vec::new();
    for retrieval in before {
        for (measure, value) in MEASURES {
            let Some(start) = value(retrieval) else { continue };
            let after: Vec<f64> = seeds
                .iter()
                .filter_map(|trained| trained.after.iter().find(|after| after.dataset == retrieval.dataset))
                .filter_map(value)
                .collect();
            let (mean, std) = mean_and_std(&after);
            lines.push(Line {
                dataset: retrieval.dataset.clone(),
                queries: retrieval.queries,
                measure,
                before: start,
                after: mean,
                after_std: std,
            });
        }
    }
    lines
}

/// Mean and sample standard deviation.
fn mean_and_std(values: &[f64]) -> (Option<f64>, Option<f64>) {
    let count = values.len() as f64;
    let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / count);
    let std = mean.filter(|_| values.len() > 1).map(|mean| {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (squares / (count - 1.0)).sqrt()
    });
    (mean, std)
}

/// The table as text.
pub(super) fn table(lines: &[Line], seeds: usize) -> String {
    let after = match seeds {
        0 => String::new(),
        1 => "after training".to_owned(),
        _ => format!("after, mean of {seeds}"),
    };
    let header = format!("{:<34} {:<10} {:>8}  {after}", "queries", "measure", "before");
    let mut text = format!("{}\n", header.trim_end());
    let mut previous = "";
    for line in lines {
        let name = format!("{} ({})", line.dataset, line.queries);
        let name = if line.dataset == previous { "" } else { &name };
        previous = &line.dataset;
        let after = line.after.map_or_else(String::new, |after| format!("{after:.4}"));
        let spread = line.after_std.map_or_else(String::new, |std| format!(" +- {std:.4}"));
        text.push_str(&format!("{name:<34} {:<10} {:>8.4}  {after}{spread}", line.measure, line.before));
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retrieval(recall: f64) -> Retrieval {
        Retrieval {
            dataset: "query_icons in gallery".to_owned(),
            queries: 7,
            gallery: 70,
            recall_at_k: BTreeMap::from([(1, recall), (10, 1.0)]),
            r_precision: 0.1,
            map_at_r: recall / 2.0,
        }
    }

    #[test]
    fn seeds_become_mean_and_spread() {
        let seeds: Vec<Trained> = [0.5, 0.7]
            .iter()
            .zip(1..)
            .map(|(&recall, seed)| Trained { seed, train_seconds: 1.0, after: vec![retrieval(recall)] })
            .collect();
        let lines = compare(&[retrieval(0.4)], &seeds);
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0].measure, lines[0].before), ("Recall@1", 0.4));
        assert!((lines[0].after.unwrap() - 0.6).abs() < 1e-12);
        assert!((lines[0].after_std.unwrap() - 0.02_f64.sqrt()).abs() < 1e-12);
        let text = table(&lines, 2);
        assert!(text.contains("query_icons in gallery (7)") && text.contains("0.6000 +- 0.1414"), "{text}");
    }

    #[test]
    fn without_training_there_is_no_after() {
        let lines = compare(&[retrieval(0.4)], &[]);
        assert!(lines.iter().all(|line| line.after.is_none() && line.after_std.is_none()));
        assert!(table(&lines, 0).lines().all(|line| line == line.trim_end()));
    }

    #[test]
    fn reads_what_eval_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eval.json");
        let text = r#"{ "model": "m", "results": [ { "dataset": "a in b", "queries": 2, "gallery": 3, "answerable": 2,
            "recall_at_k": { "1": 0.5 }, "r_precision": 0.25, "map_at_r": 0.125, "left_out": 0 } ] }"#;
        fs_err::write(&path, text).unwrap();
        let results = read(&path).unwrap();
        assert_eq!((results[0].recall_at_k[&1], results[0].map_at_r), (0.5, 0.125));
    }
}
