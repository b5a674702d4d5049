//! Agreement of clusters with classes: NMI, AMI, and F1 of pairs.

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

impl Contingency {
    /// Whether the two groupings are the same but for names.
    fn is_the_same_grouping(&self) -> bool {
        self.cells.len() == self.classes.len() && self.cells.len() == self.clusters.len()
    }

    /// Mean of the two entropies, in nats.
    fn mean_entropy(&self) -> f64 {
        let n = self.items as f64;
        let entropy =
            |counts: &[usize]| -counts.iter().map(|&count| count as f64 / n).map(|p| p * p.ln()).sum::<f64>();
        (entropy(&self.classes) + entropy(&self.clusters)) / 2.0
    }

    /// Mutual information, in nats.
    fn information(&self) -> f64 {
        let n = self.items as f64;
        let cell = |(&(class, cluster), &count): (&(usize, usize), &usize)| {
            let (count, class, cluster) =
                (count as f64, self.classes[class] as f64, self.clusters[cluster] as f64);
            count / n * (count * n / (class * cluster)).ln()
        };
        self.cells.iter().map(cell).sum::<f64>().max(0.0)
    }

    /// Mean of the mutual information over all ways to deal the items to groups of these sizes (Vinh, Epps and Bailey 2010),
    /// in nats. Groups of one size are treated at once, so thousands of small classes cost little.
    fn expected_information(&self) -> f64 {
        let n = self.items;
        let mut log_factorial = vec![0.0; n + 1];
        for i in 1..=n {
            log_factorial[i] = log_factorial[i - 1] + (i as f64).ln();
        }
        let f = |i: usize| log_factorial[i];
        let mut sum = 0.0;
        for (&a, &classes) in &sizes(&self.classes) {
            for (&b, &clusters) in &sizes(&self.clusters) {
                let mut of_pair = 0.0;
                for common in (a + b).saturating_sub(n).max(1)..=a.min(b) {
                    let log_probability = f(a) + f(b) + f(n - a) + f(n - b)
                        - f(n)
                        - f(common)
                        - f(a - common)
                        - f(b - common)
                        // At least 0, as `common` starts at a + b - n.
                        - f(n + common - a - b);
                    let share = common as f64 / n as f64;
                    of_pair += share
                        * (share * n as f64 * n as f64 / (a as f64 * b as f64)).ln()
                        * log_probability.exp();
                }
                sum += of_pair * classes as f64 * clusters as f64;
            }
        }
        sum
    }
}

/// How many groups there are of each size.
fn sizes(groups: &[usize]) -> BTreeMap<usize, usize> {
    let mut sizes = BTreeMap::new();
    for &group in groups {
        *sizes.entry(group).or_default() += 1;
    }
    sizes
}

/// Normalised mutual information of classes and clusters, 0..=1, normalised by the arithmetic mean of their entropies. 1 if
/// both put everything into one group.
///
/// # Errors
/// The two differ in length, or are empty.
pub fn nmi<L: Eq + Hash, C: Eq + Hash>(labels: &[L], clusters: &[C]) -> Result<f64, MetricsError> {
    let table = Contingency::count(labels, clusters)?;
    if table.is_the_same_grouping() {
        return Ok(1.0);
    }
    // Two different groupings have an entropy above 0 between them.
    Ok((table.information() / table.mean_entropy()).min(1.0))
}

/// Adjusted mutual information of classes and clusters: mutual information above what chance gives groups of these sizes, as a share
/// of the most it could be (arithmetic mean of the entropies). 1 for the same grouping, about 0 for a random one; can be below 0.
///
/// # Errors
/// The two differ in length, or are empty.
pub fn ami<L: Eq + Hash, C: Eq + Hash>(labels: &[L], clusters: &[C]) -> Result<f64, MetricsError> {
    let table = Contingency::count(labels, clusters)?;
    if table.is_the_same_grouping() {
        return Ok(1.0);
    }
    let expected = table.expected_information();
    let most = table.mean_entropy() - expected;
    // Where chance already gives everything (one of the groupings says nothing), nothing is above it.
    if most <= f64::EPSILON {
        return Ok(0.0);
    }
    Ok((table.information() - expected) / most)
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
    fn ami_is_adjusted_by_the_mean_over_every_way_to_deal() {
        let labels = [0, 0, 0, 1, 1, 2];
        let clusters = [0, 0, 1, 1, 2, 2];
        // The definition: mutual information averaged over all 720 orders of the clusters.
        let (mut sum, mut count) = (0.0, 0.0);
        let mut order = clusters;
        permute(&mut order, 0, &mut |order| {
            sum += Contingency::count(&labels, order).expect("fits").information();
            count += 1.0;
        });
        let table = Contingency::count(&labels, &clusters).expect("fits");
        let expected = sum / count;
        assert_eq!(count, 720.0);
        assert!((table.expected_information() - expected).abs() < 1e-12);
        let by_definition = (table.information() - expected) / (table.mean_entropy() - expected);
        assert!((ami(&labels, &clusters).expect("fits") - by_definition).abs() < 1e-12);
        assert_eq!(ami(&labels, &["x", "x", "x", "y", "y", "z"]), Ok(1.0));
        assert!(ami(&[1, 1, 2, 2], &[0; 4]).expect("fits").abs() < 1e-12);
    }

    fn permute(items: &mut [i32; 6], from: usize, visit: &mut impl FnMut(&[i32; 6])) {
        if from == items.len() {
            return visit(items);
        }
        for other in from..items.len() {
            items.swap(from, other);
            permute(items, from + 1, visit);
            items.swap(from, other);
        }
    }

    #[test]
    fn lengths_must_agree() {
        assert_eq!(nmi(&[1, 2], &[1]), Err(MetricsError::Clusters { labels: 2, clusters: 1 }));
        assert_eq!(f1::<u8, u8>(&[], &[]), Err(MetricsError::Empty("clusters")));
    }
}
