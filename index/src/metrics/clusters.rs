//! Agreement of clusters with classes.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use super::MetricsError;

/// How many items fall into each class, each cluster, and each pair of the two. Classes and clusters are numbered in order of
/// first appearance, so that sums are the same in every run.
struct Contingency {
    items: usize,
    classes: Vec<usize>,
    clusters: Vec<usize>,
    cells: BTreeMap<(usize, usize), usize>,
}

impl Contingency {
    fn count<L: Eq + Hash, C: Eq + Hash>(labels: &[L], clusters: &[C]) -> Result<Self, MetricsError> {
        if labels.len() != clusters.len() {
            return Err(MetricsError::Clusters { labels: labels.len(), clusters: clusters.len() });
        }
        if labels.is_empty() {
            return Err(MetricsError::Empty("clusters"));
        }
        let (mut class_numbers, mut cluster_numbers) = (HashMap::new(), HashMap::new());
        let mut table =
            Self { items: labels.len(), classes: Vec::new(), clusters: Vec::new(), cells: BTreeMap::new() };
        for (label, cluster) in labels.iter().zip(clusters) {
            let class = number(&mut class_numbers, &mut table.classes, label);
            let cluster = number(&mut cluster_numbers, &mut table.clusters, cluster);
            *table.cells.entry((class, cluster)).or_default() += 1;
        }
        Ok(table)
    }
}

/// The number of `key`, given on first sight; counts it.
fn number<'k, K: Eq + Hash>(
    numbers: &mut HashMap<&'k K, usize>,
    counts: &mut Vec<usize>,
    key: &'k K,
) -> usize {
    let next = counts.len();
    let number = *numbers.entry(key).or_insert(next);
    if number == next {
        counts.push(0);
    }
    counts[number] += 1;
    number
}

/// Normalised mutual information of classes and clusters, 0..=1, normalised by the arithmetic mean of their entropies. 1 if
/// both put everything into one group.
///
/// # Errors
/// The two differ in length, or are empty.
pub fn nmi<L: Eq + Hash, C: Eq + Hash>(labels: &[L], clusters: &[C]) -> Result<f64, MetricsError> {
    let table = Contingency::count(labels, clusters)?;
    let n = table.items as f64;
    let entropy =
        |counts: &[usize]| -counts.iter().map(|&count| count as f64 / n).map(|p| p * p.ln()).sum::<f64>();
    let (of_classes, of_clusters) = (entropy(&table.classes), entropy(&table.clusters));
    if table.classes.len() == 1 && table.clusters.len() == 1 {
        return Ok(1.0);
    }
    let information: f64 = table
        .cells
        .iter()
        .map(|(&(class, cluster), &count)| {
            let (count, class, cluster) =
                (count as f64, table.classes[class] as f64, table.clusters[cluster] as f64);
            count / n * (count * n / (class * cluster)).ln()
        })
        .sum();
    Ok((information.max(0.0) / ((of_classes + of_clusters) / 2.0)).min(1.0))
}

/// F1 of pairs, 0..=1: a pair of items is found if both are in one cluster, and right if both are of one class. 0 if no pair
/// is right.
///
/// # Errors
/// The two differ in length, or are empty.
pub fn f1<L: Eq + Hash, C: Eq + Hash>(labels: &[L], clusters: &[C]) -> Result<f64, MetricsError> {
    let table = Contingency::count(labels, clusters)?;
    let pairs = |count: usize| count as f64 * (count as f64 - 1.0) / 2.0;
    let right: f64 = table.cells.values().map(|&count| pairs(count)).sum();
    let of_classes: f64 = table.classes.iter().map(|&count| pairs(count)).sum();
    let of_clusters: f64 = table.clusters.iter().map(|&count| pairs(count)).sum();
    if right == 0.0 {
        return Ok(0.0);
    }
    let (precision, recall) = (right / of_clusters, right / of_classes);
    Ok(2.0 * precision * recall / (precision + recall))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_grouping_under_other_names_is_perfect() {
        let labels = ["a", "b", "a", "c"];
        let clusters = [7, 1, 7, 2];
        assert!((nmi(&labels, &clusters).expect("fits") - 1.0).abs() < 1e-12);
        assert_eq!(f1(&labels, &clusters), Ok(1.0));
    }

    #[test]
    fn one_cluster_for_everything_says_nothing() {
        let labels = [1, 1, 2, 2];
        assert_eq!(nmi(&labels, &[0; 4]), Ok(0.0));
        // 2 of 6 pairs are right, and all right pairs are found.
        assert!((f1(&labels, &[0; 4]).expect("fits") - 0.5).abs() < 1e-12);
        assert_eq!(f1(&labels, &[0, 1, 2, 3]), Ok(0.0));
    }

    #[test]
    fn lengths_must_agree() {
        assert_eq!(nmi(&[1, 2], &[1]), Err(MetricsError::Clusters { labels: 2, clusters: 1 }));
        assert_eq!(f1::<u8, u8>(&[], &[]), Err(MetricsError::Empty("clusters")));
    }
}
