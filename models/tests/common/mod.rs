//! What several tests need: the reference numbers of the official implementation.

use std::path::{Path, PathBuf};

use dfml_models::{Architecture, TensorMap, Vit, load_metadata, load_weights};

/// A file of `$DFML_GOLDEN_DIR`, by default the workspace's `tests/golden`.
pub(crate) fn golden(name: &str) -> PathBuf {
    match std::env::var_os("DFML_GOLDEN_DIR") {
        Some(dir) => PathBuf::from(dir).join(name),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name),
    }
}

/// The networks of which there are reference numbers (the files whose metadata names a number of sub-blocks), with those
/// numbers.
#[allow(dead_code, reason = "not every test file uses it")]
pub(crate) fn golden_vits() -> Vec<(Architecture, TensorMap)> {
    let folder = golden("");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("a file").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    let networks: Vec<_> = files.iter().filter_map(|path| golden_vit(path)).collect();
    assert!(!networks.is_empty(), "no reference network in {}", folder.display());
    networks
}

fn golden_vit(path: &Path) -> Option<(Architecture, TensorMap)> {
    let metadata = load_metadata(path).unwrap_or_else(|error| panic!("{error}"));
    let number = |key: &str| -> usize {
        let text = metadata.get(key).unwrap_or_else(|| panic!("{}: no {key}", path.display()));
        text.parse().unwrap_or_else(|_| panic!("{}: {key} is {text:?}", path.display()))
    };
    metadata.get("sub_blocks")?;
    let tensors = load_weights(path).unwrap_or_else(|error| panic!("{error}"));
    let net = Vit {
        image_size: number("image_size"),
        patch_size: number("patch_size"),
        dim: number("dim"),
        depth: number("depth"),
        heads: number("heads"),
        mlp_hidden: tensors["dense.blocks.0.mlp.fc1.weight"].shape[0],
        distilled: metadata["kind"] == "distilled",
        sub_blocks: number("sub_blocks"),
        embedding_dim: None,
    };
    Some((Architecture::Vit(net), tensors))
}

/// The tensors whose names begin with `prefix`, without it.
#[allow(dead_code, reason = "not every test file uses it")]
pub(crate) fn with_prefix(tensors: &TensorMap, prefix: &str) -> TensorMap {
    let tensors = tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    tensors.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
}
