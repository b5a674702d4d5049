//! Our measures against those of the official evaluation on the same embeddings.

use std::{fs, path::PathBuf};

use dfml_index::metrics::{self, Labelled};
use safetensors::SafeTensors;

/// Reference numbers: `DFML_GOLDEN_DIR`, else the repository's own.
fn golden() -> Vec<u8> {
    let folder = std::env::var_os("DFML_GOLDEN_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden"), PathBuf::from);
    fs::read(folder.join("metrics.safetensors")).expect("the golden numbers are in the repository")
}

fn words<const N: usize, T>(file: &SafeTensors<'_>, name: &str, read: fn([u8; N]) -> T) -> Vec<T> {
    let tensor = file.tensor(name).expect("the file has it");
    tensor.data().chunks_exact(N).map(|word| read(word.try_into().expect("N bytes"))).collect()
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
}

#[test]
fn retrieval_agrees_with_the_official_evaluation() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let vectors = words(&file, "embeddings", f32::from_le_bytes);
    let labels = words(&file, "labels", i64::from_le_bytes);
    let dim = vectors.len() / labels.len();
    let number = |name: &str| words(&file, name, f64::from_le_bytes)[0];

    let gallery = Labelled { vectors: &vectors, dim, labels: &labels };
    let found = metrics::evaluate(gallery, None, &[1, 2, 4, 8, 10]).expect("the embeddings fit");
    for (k, recall) in &found.recall_at_k {
        close(*recall, number(&format!("recall_at_{k}")));
    }
    close(found.r_precision, number("r_precision"));
    close(found.map_at_r, number("map_at_r"));
    assert_eq!(
        (found.queries, found.answerable),
        (labels.len(), labels.len() - 1),
        "the last class has one member"
    );
}

#[test]
fn neighbours_agree_with_the_official_evaluation() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let vectors = words(&file, "embeddings", f32::from_le_bytes);
    let expected = words(&file, "neighbours", i64::from_le_bytes);
    let depth = file.tensor("neighbours").expect("the file has it").shape()[1];
    let dim = file.tensor("embeddings").expect("the file has it").shape()[1];
    let found = metrics::nearest(
        &vectors,
        None,
        dim,
        |_| depth,
        |_, found| found.iter().map(|n| i64::try_from(n.position).expect("small")).collect::<Vec<_>>(),
    );
    assert_eq!(found.concat(), expected);
}

#[test]
fn clusters_agree_with_the_official_evaluation() {
    let bytes = golden();
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let labels = words(&file, "labels", i64::from_le_bytes);
    let clusters = words(&file, "cluster_labels", i64::from_le_bytes);
    close(
        metrics::nmi(&labels, &clusters).expect("fits"),
        words(&file, "nmi_of_given_clusters", f64::from_le_bytes)[0],
    );
    close(
        metrics::f1(&labels, &clusters).expect("fits"),
        words(&file, "f1_of_given_clusters", f64::from_le_bytes)[0],
    );
}
