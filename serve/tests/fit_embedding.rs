//! The embedding layer of the model "before training".

mod support;

use dfml_models::{Architecture, EfficientNetLite, ExportRequest, TensorMap, Transform, write_model_dir};
use dfml_serve::{
    bulk::fit_embedding::{add_layer, pooled_features},
    engine::{EngineOptions, Provider},
};
use support::{lineage, load, weights, write_jpeg};

const IMAGES: u32 = 12;
const DIM: usize = 6;

fn export(dir: &std::path::Path, net: &EfficientNetLite, weights: &TensorMap, transform: &Transform) {
    let request = ExportRequest {
        name: "test".to_owned(),
        architecture: Architecture::EfficientnetLite(net.clone()),
        weights,
        transform: transform.clone(),
        lineage: lineage(0),
        reference: None,
    };
    write_model_dir(dir, &request).expect("a model directory");
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter().map(|value| value / length).collect()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 2e-4, "{what}: off by {worst}");
}

#[test]
fn the_fitted_layer_projects_the_raw_features() {
    let dir = tempfile::tempdir().expect("folder");
    let net = EfficientNetLite::lite0();
    let transform = Transform::efficientnet_lite(32);
    let weights = weights(&Architecture::EfficientnetLite(net.clone()), 5);
    let mut paths: Vec<_> = (0..IMAGES).map(|n| dir.path().join(format!("{n}.jpg"))).collect();
    for (path, n) in paths.iter().zip(0..) {
        write_jpeg(path, n);
    }
    paths.insert(3, dir.path().join("absent.jpg"));
    let options =
        EngineOptions { provider: Provider::Cpu, threads: Some(2), sessions: Some(2), ..Default::default() };
    let mut failed = Vec::new();
    let features = pooled_features(&net, &weights, &transform, &paths, &options, |position, error| {
        failed.extend(error.map(|_| position));
        true
    })
    .expect("features");
    assert_eq!((features.rows, features.width, features.skipped), (IMAGES as usize, 1280, 1));
    assert_eq!(failed, [3]);

    // Without the layer, the embedding is the features at unit length.
    let bare = dir.path().join("bare");
    export(&bare, &net, &weights, &transform);
    let bare = load(&bare, 1);
    let bytes = std::fs::read(&paths[1]).expect("a file");
    let row = &features.values[1280..2 * 1280];
    assert_close(&bare.embed_bytes(&bytes).expect("an image"), &unit(row), "features");
    assert!(
        (row.iter().map(|value| value * value).sum::<f32>().sqrt() - 1.0).abs() > 0.01,
        "the length is not lost"
    );

    // With it, the projection on the principal components.
    let pca =
        dfml_models::pca::fit(&features.values, features.rows, features.width, DIM).expect("components");
    let centred: Vec<f32> = row.iter().zip(&pca.mean).map(|(value, mean)| value - mean).collect();
    let project = |axis: &Vec<f32>| axis.iter().zip(&centred).map(|(a, b)| a * b).sum::<f32>();
    let expected: Vec<f32> = pca.components.iter().map(project).collect();
    let (net, weights) = add_layer(&net, weights, &features, DIM).expect("a layer");
    let fitted = dir.path().join("fitted");
    export(&fitted, &net, &weights, &transform);
    let found = load(&fitted, 1).embed_bytes(&bytes).expect("an image");
    assert_close(&found, &unit(&expected), "projection");

    let error = add_layer(&EfficientNetLite::lite0(), weights, &features, 300)
        .expect_err("12 images span 11 dimensions");
    assert!(error.to_string().contains("300"), "{error}");
}
