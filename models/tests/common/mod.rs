//! What several tests need: the reference numbers of the official implementation.

use std::path::{Path, PathBuf};

use dfml_models::{Architecture, TensorMap, Vit, load_weights};

/// A file of `$DFML_GOLDEN_DIR`, by default the workspace's `tests/golden`.
pub(crate) fn golden(name: &str) -> PathBuf {
    match std::env::var_os("DFML_GOLDEN_DIR") {
        Some(dir) => PathBuf::from(dir).join(name),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name),
    }
}

/// The two networks of which there are reference numbers, with those numbers.
#[allow(dead_code, reason = "not every test file uses it")]
pub(crate) fn golden_vits() -> Vec<(Architecture, TensorMap)> {
    let net = |image_size, patch_size, depth, distilled| {
        Architecture::Vit(Vit {
            image_size,
            patch_size,
            dim: 48,
            depth,
            heads: 6,
            mlp_hidden: 192,
            distilled,
            sub_blocks: 3,
        })
    };
    [("deit_distilled", net(32, 8, 3, true)), ("vit_plain", net(48, 16, 2, false))]
        .map(|(name, net)| {
            (net, load_weights(golden(&format!("{name}.safetensors"))).expect("golden weights"))
        })
        .into()
}

/// The tensors whose names begin with `prefix`, without it.
#[allow(dead_code, reason = "not every test file uses it")]
pub(crate) fn with_prefix(tensors: &TensorMap, prefix: &str) -> TensorMap {
    let tensors = tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    tensors.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
}
