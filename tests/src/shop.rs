//! A small shop in a temporary folder: pictures, a random model, an index.

use std::path::PathBuf;

use dfml_index::{EmbeddedIndex, Item, OpenOptions, VectorIndex};
use dfml_models::{
    Architecture, ExportRequest, Interpolation, Lineage, Tensor, TensorMap, Transform, Vit, write_model_dir,
};
use dfml_serve::engine::{Engine, EngineOptions};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tempfile::TempDir;

use crate::pictures::{self, SHAPES};

/// Classes in the shop; each is a product.
pub const PRODUCTS: u64 = 12;
/// Pictures per product in the index.
pub const VIEWS: u64 = 3;
const SIDE: u32 = 32;

/// Pictures, a model and a store, removed when dropped.
pub struct Shop {
    folder: TempDir,
}

impl Shop {
    /// Draws the pictures, writes the model and indexes the pictures with it.
    pub fn open() -> Self {
        let shop = Self { folder: tempfile::tempdir().expect("temporary folder") };
        let classes: Vec<u64> = (0..PRODUCTS).collect();
        let paths = pictures::write_list(&shop.pictures(), "gallery.txt", &classes, 0..VIEWS);
        write_model(&shop.model(), "tiny-random", 7);
        let engine = shop.engine();
        let index = open_index(&shop, &engine, true);
        let items = paths
            .iter()
            .enumerate()
            .map(|(number, path)| item(&shop, &engine, number as u64, path))
            .collect();
        index.upsert(items).expect("the items fit");
        index.flush().expect("the store is writable");
        shop
    }

    /// The folder of the pictures.
    pub fn pictures(&self) -> PathBuf {
        self.folder.path().join("pictures")
    }

    /// The model directory.
    pub fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    /// The store directory.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Whether no other handle has the store open.
    pub fn is_free(&self) -> bool {
        let engine = self.engine();
        let manifest = engine.manifest();
        let options = OpenOptions::new(manifest.embedding_dim, manifest.fingerprint());
        EmbeddedIndex::open(self.store(), options).is_ok()
    }

    /// The model on ONNX Runtime, one thread.
    pub fn engine(&self) -> Engine {
        let options = EngineOptions { threads: Some(1), ..EngineOptions::default() };
        Engine::load(&self.model(), &options)
            .unwrap_or_else(|error| panic!("{error}; `cargo xtask test` sets up what the tests need"))
    }

    /// The index.
    pub fn index(&self, engine: &Engine) -> EmbeddedIndex {
        open_index(self, engine, false)
    }
}

fn open_index(shop: &Shop, engine: &Engine, create: bool) -> EmbeddedIndex {
    let manifest = engine.manifest();
    let options = OpenOptions { create, ..OpenOptions::new(manifest.embedding_dim, manifest.fingerprint()) };
    EmbeddedIndex::open(shop.store(), options).expect("the store is not open elsewhere")
}

fn item(shop: &Shop, engine: &Engine, number: u64, path: &str) -> Item {
    let class = number / VIEWS;
    let bytes = fs_err::read(shop.pictures().join(path)).expect("written above");
    let metadata = json!({
        "name": format!("{} no. {class}", SHAPES[(class % 6) as usize]),
        "category": category(class),
        "creator": "Ada Example",
        "license": "CC-BY 4.0",
        "path": path,
        "width_cm": 10 + class,
    });
    let serde_json::Value::Object(metadata) = metadata else { unreachable!("written as an object above") };
    Item {
        id: format!("{path}#{number}"),
        product_id: class.to_string(),
        vector: engine.embed_bytes(&bytes).expect("a picture drawn above"),
        metadata,
    }
}

/// The category of a class: two for all.
pub fn category(class: u64) -> &'static str {
    if class.is_multiple_of(2) { "Round & even" } else { "Odd ones" }
}

/// A transformer of 32 dimensions with random weights: computed in a millisecond, and enough to know a picture again.
/// Another seed is another model.
pub fn write_model(folder: &std::path::Path, name: &str, seed: u64) {
    let architecture = Architecture::Vit(Vit {
        image_size: SIDE as usize,
        patch_size: 8,
        dim: 32,
        depth: 2,
        heads: 2,
        mlp_hidden: 64,
        distilled: false,
        sub_blocks: 1,
        embedding_dim: None,
    });
    let request = ExportRequest {
        name: name.to_owned(),
        weights: &random_weights(&architecture, seed),
        architecture,
        transform: Transform {
            resize_short: SIDE,
            crop_height: SIDE,
            crop_width: SIDE,
            interpolation: Interpolation::BilinearAntialias,
            mean: [127.0; 3],
            std: [64.0; 3],
        },
        lineage: Lineage {
            weights_sha256: "0".repeat(64),
            data_sha256: None,
            config_sha256: None,
            checkpoint_sha256: None,
            seed: Some(seed),
            producer: "dfml-tests".to_owned(),
        },
        reference: None,
    };
    write_model_dir(folder, &request).expect("a well-formed model");
}

/// Weights as an initialisation would draw them: scales 1, shifts 0, the rest uniform with variance 1 / inputs.
fn random_weights(architecture: &Architecture, seed: u64) -> TensorMap {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |name: &str, shape: &[usize]| {
        let length: usize = shape.iter().product();
        let inputs: usize = shape.iter().skip(1).product();
        let bound = (3.0 / inputs.max(1) as f32).sqrt();
        let value = |rng: &mut ChaCha8Rng| match (name.ends_with("bias"), shape.len()) {
            (true, _) => 0.0,
            (false, 1) => 1.0,
            _ => rng.random_range(-bound..bound),
        };
        Tensor { shape: shape.to_vec(), data: (0..length).map(|_| value(&mut rng)).collect() }
    };
    architecture
        .dense_tensors()
        .into_iter()
        .map(|spec| (spec.name.clone(), draw(&spec.name, &spec.shape)))
        .collect()
}
