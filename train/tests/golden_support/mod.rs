//! Reading the reference numbers, and comparing with them.

#![allow(dead_code, reason = "each test binary uses a part of this module")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dfml_models::{TensorMap, Vit};
use dfml_train::nn::params::to_host;
use tch::{Kind, Tensor};

/// The reference numbers of one small network: `DFML_GOLDEN_DIR`, by default the workspace's tests/golden.
pub(crate) struct Golden {
    pub(crate) name: String,
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
}

/// Every file of the folder that holds a network (its metadata names the number of sub-blocks).
pub(crate) fn networks() -> Vec<Golden> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let dir = std::env::var_os("DFML_GOLDEN_DIR").map_or(default, PathBuf::from);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    paths.sort();
    let found: Vec<Golden> = paths
        .iter()
        .map(|path| Golden::read(path))
        .filter(|g| g.metadata.contains_key("sub_blocks"))
        .collect();
    assert!(!found.is_empty(), "no reference network in {}", dir.display());
    found
}

impl Golden {
    fn read(path: &Path) -> Golden {
        let tensors = Tensor::read_safetensors(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let metadata = dfml_models::load_metadata(path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Golden { name, tensors: tensors.into_iter().collect(), metadata: metadata.into_iter().collect() }
    }

    pub(crate) fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{} holds no {name}", self.name))
    }

    /// The tensors below `prefix`, which is taken off their names.
    pub(crate) fn below(&self, prefix: &str) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().filter_map(move |(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)))
    }

    /// The tensors below `prefixes` as host weights.
    pub(crate) fn weights(&self, prefixes: &[&str]) -> TensorMap {
        let of = |prefix| self.below(prefix).map(|(name, tensor)| (name.to_owned(), to_host(tensor)));
        prefixes.iter().flat_map(|prefix| of(prefix)).collect()
    }

    fn number(&self, key: &str) -> usize {
        let text = self.metadata.get(key).unwrap_or_else(|| panic!("{}: no {key}", self.name));
        text.parse().unwrap_or_else(|_| panic!("{}: {key} is {text:?}", self.name))
    }

    pub(crate) fn architecture(&self) -> Vit {
        Vit {
            image_size: self.number("image_size"),
            patch_size: self.number("patch_size"),
            dim: self.number("dim"),
            depth: self.number("depth"),
            heads: self.number("heads"),
            mlp_hidden: self.get("dense.blocks.0.mlp.fc1.weight").size()[0] as usize,
            distilled: self.metadata.get("kind").is_some_and(|kind| kind == "distilled"),
            sub_blocks: self.number("sub_blocks"),
            embedding_dim: None,
        }
    }

    /// Asserts that `found` is the tensor `name` within `relative` of its largest element.
    pub(crate) fn check(&self, name: &str, found: &Tensor, relative: f64) {
        assert_close(&format!("{} {name}", self.name), found, self.get(name), relative);
    }
}

/// Asserts that the largest difference is within `relative` of the largest element expected.
pub(crate) fn assert_close(what: &str, found: &Tensor, expected: &Tensor, relative: f64) {
    assert_eq!(found.size(), expected.size(), "{what}: shape");
    let difference = (found - expected).abs().max().double_value(&[]);
    let scale = expected.abs().max().double_value(&[]);
    // `<=` is false for NaN, which must fail.
    let close = difference <= relative * scale;
    assert!(close, "{what}: off by {difference:e} of {scale:e}, more than {relative:e} of it");
}

/// The scalar sum of `terms`.
pub(crate) fn total(terms: &[Tensor]) -> Tensor {
    Tensor::stack(terms, 0).sum(Kind::Float)
}
