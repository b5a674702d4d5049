//! Recall@K, R-precision and MAP@R.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use serde::{Deserialize, Serialize};

use super::{Labelled, MetricsError, nearest};

/// How well queries find their class in a gallery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// Number of queries.
    pub queries: usize,
    /// Number of gallery vectors.
    pub gallery: usize,
    /// Queries whose class has a member in the gallery besides themselves. R-precision and MAP@R average over these.
    pub answerable: usize,
    /// Recall@K by K: share of all queries with a member of their class among the K nearest.
    pub recall_at_k: BTreeMap<u32, f64>,
    /// Mean share of the R nearest that are of the query's class, R being the number of its members in the gallery.
    pub r_precision: f64,
    /// Mean average precision at R.
    pub map_at_r: f64,
}

impl Retrieval {
    /// The figures on one line.
    pub fn one_line(&self) -> String {
        let recall = self.recall_at_k.iter().map(|(k, recall)| format!("Recall@{k} {recall:.4}"));
        let rest = [format!("RP {:.4}", self.r_precision), format!("MAP@R {:.4}", self.map_at_r)];
        recall.chain(rest).collect::<Vec<_>>().join("  ")
    }
}

/// Whether one of the `k` nearest is relevant. `relevant` is best first.
pub fn recall_at_k(relevant: &[bool], k: usize) -> bool {
    relevant.iter().take(k).any(|&relevant| relevant)
}

/// Share of the first `r` that are relevant; 0 if `r` is 0. `relevant` is best first.
pub fn r_precision(relevant: &[bool], r: usize) -> f64 {
    let found = relevant.iter().take(r).filter(|&&relevant| relevant).count();
    found as f64 / r.max(1) as f64
}

/// Average precision at R: the mean over the first `r` ranks of precision at that rank where the rank is relevant, else 0;
/// 0 if `r` is 0. `relevant` is best first.
pub fn average_precision_at_r(relevant: &[bool], r: usize) -> f64 {
    let mut found = 0usize;
    let mut sum = 0.0;
    for (index, _) in relevant.iter().take(r).enumerate().filter(|(_, relevant)| **relevant) {
        found += 1;
        sum += found as f64 / (index + 1) as f64;
    }
    sum / r.max(1) as f64
}

/// The measures of one query.
struct Judged {
    recalled: Vec<bool>,
    /// R-precision and average precision, if the query is answerable.
    precision: Option<(f64, f64)>,
}

/// Searches every query in the gallery and averages the measures. Without `queries`, each gallery vector is a query for the others
/// (leave one out).
///
/// # Errors
/// [`MetricsError`] if shapes do not fit, a value is not finite, there is nothing to judge, or a K is 0.
pub fn evaluate<L: Eq + Hash + Sync>(
    gallery: Labelled<'_, L>,
    queries: Option<Labelled<'_, L>>,
    ks: &[u32],
) -> Result<Retrieval, MetricsError> {
    check(&gallery, queries.as_ref(), ks)?;
    let mut members: HashMap<&L, usize> = HashMap::new();
    for label in gallery.labels {
        *members.entry(label).or_default() += 1;
    }
    let labels = queries.map_or(gallery.labels, |queries| queries.labels);
    let own = usize::from(queries.is_none());
    let r = |query: usize| members.get(&labels[query]).map_or(0, |&count| count - own);
    let deepest = ks.iter().copied().max().map_or(0, |k| k as usize);
    let judged = nearest(
        gallery.vectors,
        queries.map(|queries| queries.vectors),
        gallery.dim,
        |query| deepest.max(r(query)),
        |query, found| {
            let relevant: Vec<bool> =
                found.iter().map(|found| gallery.labels[found.position] == labels[query]).collect();
            let r = r(query);
            Judged {
                recalled: ks.iter().map(|&k| recall_at_k(&relevant, k as usize)).collect(),
                precision: (r > 0).then(|| (r_precision(&relevant, r), average_precision_at_r(&relevant, r))),
            }
        },
    );
    Ok(average(&judged, gallery.labels.len(), ks))
}

fn check<L>(
    gallery: &Labelled<'_, L>,
    queries: Option<&Labelled<'_, L>>,
    ks: &[u32],
) -> Result<(), MetricsError> {
    gallery.check("gallery")?;
    if let Some(queries) = queries {
        queries.check("queries")?;
        if queries.dim != gallery.dim {
            return Err(MetricsError::Dimensions { queries: queries.dim, gallery: gallery.dim });
        }
    }
    if ks.contains(&0) { Err(MetricsError::ZeroK) } else { Ok(()) }
}

fn average(judged: &[Judged], gallery: usize, ks: &[u32]) -> Retrieval {
    let queries = judged.len();
    let recall =
        |column: usize| judged.iter().filter(|query| query.recalled[column]).count() as f64 / queries as f64;
    let precisions: Vec<(f64, f64)> = judged.iter().filter_map(|query| query.precision).collect();
    let mean =
        |of: fn(&(f64, f64)) -> f64| precisions.iter().map(of).sum::<f64>() / precisions.len().max(1) as f64;
    Retrieval {
        queries,
        gallery,
        answerable: precisions.len(),
        recall_at_k: ks.iter().enumerate().map(|(column, &k)| (k, recall(column))).collect(),
        r_precision: mean(|precision| precision.0),
        map_at_r: mean(|precision| precision.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_of_one_ranking() {
        let relevant = [false, true, true, false];
        assert!(!recall_at_k(&relevant, 1) && recall_at_k(&relevant, 2));
        assert_eq!(r_precision(&relevant, 3), 2.0 / 3.0);
        assert_eq!(average_precision_at_r(&relevant, 3), (1.0 / 2.0 + 2.0 / 3.0) / 3.0);
        assert_eq!((r_precision(&relevant, 0), average_precision_at_r(&[], 5)), (0.0, 0.0));
    }

    #[test]
    fn query_against_gallery() {
        let gallery = Labelled { vectors: &[1.0, 0.0, 0.0, 1.0, 0.6, 0.8], dim: 2, labels: &["a", "b", "a"] };
        let queries = Labelled { vectors: &[0.0, 1.0, 1.0, 0.0], dim: 2, labels: &["a", "z"] };
        let found = evaluate(gallery, Some(queries), &[1, 2]).expect("fits");
        // "a" finds b, a, a: R = 2. "z" is not in the gallery: never found, left out of the precisions.
        assert_eq!(found.recall_at_k, BTreeMap::from([(1, 0.0), (2, 0.5)]));
        assert_eq!((found.queries, found.gallery, found.answerable), (2, 3, 1));
        assert_eq!((found.r_precision, found.map_at_r), (0.5, 0.25));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let set = |vectors, labels| Labelled { vectors, dim: 2, labels };
        let good = set(&[1.0, 0.0], &[1]);
        let empty: MetricsError = evaluate(set(&[], &[]), None, &[1]).expect_err("empty");
        assert_eq!(empty, MetricsError::Empty("gallery"));
        assert!(matches!(evaluate(set(&[1.0], &[1]), None, &[1]), Err(MetricsError::Shape { .. })));
        assert!(matches!(
            evaluate(good, Some(set(&[0.0, f32::NAN], &[1])), &[1]),
            Err(MetricsError::NotFinite { what: "queries", row: 0 })
        ));
        assert_eq!(evaluate(good, None, &[0]), Err(MetricsError::ZeroK));
        let other = Labelled { vectors: &[1.0], dim: 1, labels: &[1] };
        assert!(matches!(evaluate(good, Some(other), &[1]), Err(MetricsError::Dimensions { .. })));
    }
}
