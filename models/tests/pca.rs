//! Principal components: of data whose components are known.

use dfml_models::pca::{Pca, PcaError, fit};

/// Repeatable numbers from -1 to 1.
fn noise(seed: &mut u64) -> f32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Vectors around (10, -20, 30) that vary most along (1, 1, 0), less along the last axis, hardly along (1, -1, 0).
fn cloud(n: usize) -> Vec<f32> {
    let mut seed = 42;
    let mut vector = || {
        let (a, b, c) = (5.0 * noise(&mut seed), 2.0 * noise(&mut seed), 0.1 * noise(&mut seed));
        [10.0 + a + c, -20.0 + a - c, 30.0 + b]
    };
    (0..n).flat_map(|_| vector()).collect()
}

fn project(pca: &Pca, vector: &[f32]) -> Vec<f32> {
    let (weight, bias) = pca.linear();
    let rows = weight.data.chunks_exact(vector.len()).zip(&bias.data);
    rows.map(|(row, bias)| row.iter().zip(vector).map(|(w, x)| w * x).sum::<f32>() + bias).collect()
}

#[test]
fn finds_the_directions_of_largest_variance_in_order() {
    let pca = fit(&cloud(2000), 2000, 3, 2).unwrap();
    let half = std::f32::consts::FRAC_1_SQRT_2;
    for (found, expected) in pca.components.iter().zip([[half, half, 0.0], [0.0, 0.0, 1.0]]) {
        for (x, y) in found.iter().zip(expected) {
            assert!((x - y).abs() < 0.02, "{found:?} instead of {expected:?}");
        }
    }
    assert!(pca.explained > 0.99 && pca.explained < 1.0, "{}", pca.explained);
    assert_eq!(pca, fit(&cloud(2000), 2000, 3, 2).unwrap(), "the same data gives the same components");
}

#[test]
fn the_layer_maps_the_mean_to_zero_and_keeps_distances() {
    let features = cloud(500);
    let pca = fit(&features, 500, 3, 3).unwrap();
    assert!(project(&pca, &pca.mean).iter().all(|x| x.abs() < 1e-4));
    let (a, b) = (&features[0..3], &features[3..6]);
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f32>().sqrt();
    let (before, after) = (distance(a, b), distance(&project(&pca, a), &project(&pca, b)));
    assert!((before - after).abs() < 1e-3 * before, "{before} became {after}");
    assert!((pca.explained - 1.0).abs() < 1e-9);
}

#[test]
fn more_components_than_directions_is_an_error_that_counts_them() {
    // Fewer vectors than components; then many vectors on one line; then vectors that are all the same.
    assert_eq!(fit(&cloud(2), 2, 3, 2), Err(PcaError::Rank { dim: 2, n: 2, d: 3, rank: 1 }));
    let line: Vec<f32> = (0..100).flat_map(|i| [i as f32, 2.0 * i as f32, 0.0]).collect();
    assert_eq!(fit(&line, 100, 3, 2), Err(PcaError::Rank { dim: 2, n: 100, d: 3, rank: 1 }));
    assert!(fit(&line, 100, 3, 1).is_ok());
    let same = [1.0, 2.0, 3.0].repeat(10);
    assert_eq!(fit(&same, 10, 3, 1), Err(PcaError::Rank { dim: 1, n: 10, d: 3, rank: 0 }));
    let message = fit(&cloud(2), 2, 3, 2).unwrap_err().to_string();
    assert!(message.contains("only 1 directions"), "{message}");
}

#[test]
fn wrong_sizes_and_values_are_errors() {
    assert_eq!(fit(&[1.0; 5], 2, 3, 1), Err(PcaError::Size { values: 5, n: 2, d: 3 }));
    assert_eq!(fit(&[], 0, 3, 1), Err(PcaError::Size { values: 0, n: 0, d: 3 }));
    let mut features = cloud(10);
    features[14] = f32::NAN;
    assert_eq!(fit(&features, 10, 3, 1), Err(PcaError::NotFinite { row: 4 }));
}
