//! `dfml-train convert`: a pretrained file becomes factorised weights, or factorised weights a dense file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use dfml_models::{
    Architecture, FactorizeError, Inventory, TensorMap, WeightForm, arch, load_metadata, load_weights,
    preset, save_safetensors, sha256_file, to_dense, to_factorized,
};

/// Cut dense weights into sub-blocks, or fold sub-blocks into dense weights.
///
/// Reads safetensors and PyTorch files (zip and legacy; nothing in them is executed), dense or factorised. Names and
/// values are those of the official DFML conversion. Every tensor that is missing, unknown or of another shape is
/// listed, and then nothing is written; so is every tensor that is left out because no embedding depends on it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml-train convert deit_small_distilled_patch16_224.pth deit-s.safetensors
  dfml-train convert resnet50.pth resnet50.safetensors --sub-blocks 4
  dfml-train convert runs/sop/checkpoint.safetensors dense.safetensors --fold
  dfml-train convert vit.pth vit.safetensors --heads 6      # heads that are not 64 long")]
pub(crate) struct Args {
    /// Weights to read: .pth or .safetensors.
    input: PathBuf,
    /// Safetensors file to write.
    output: PathBuf,
    /// The network, by timm's name or as a JSON file (a manifest.json will do); found out from the file if not given.
    #[arg(long, value_name = "NAME|FILE")]
    arch: Option<String>,
    /// Sub-blocks that each block is cut into; factorised weights bring their own.
    #[arg(long, value_name = "K", default_value_t = 3)]
    sub_blocks: usize,
    /// Attention heads of a transformer whose heads are not 64 long.
    #[arg(long, value_name = "N", conflicts_with = "arch")]
    heads: Option<usize>,
    /// Write the dense network of the same function.
    #[arg(long)]
    fold: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let weights = load_weights(&args.input)?;
    let architecture = architecture(args, &weights)?;
    architecture.validate()?;
    let inventory = Inventory::of(&architecture, &weights);
    let converted =
        if args.fold { to_dense(&architecture, &weights) } else { to_factorized(&architecture, &weights) };
    let converted = match converted {
        Ok(converted) => converted,
        Err(FactorizeError::Mismatch(inventory)) => {
            list_misfits(&inventory);
            bail!(
                "{} does not fit the network: {} tensors missing, {} of another shape, {} unknown (listed above)",
                args.input.display(),
                inventory.missing.len(),
                inventory.misshapen.len(),
                inventory.unexpected.len()
            );
        }
        Err(error) => return Err(error).with_context(|| args.input.display().to_string()),
    };
    let metadata = BTreeMap::from([
        ("architecture".to_owned(), serde_json::to_string(&architecture)?),
        ("source_sha256".to_owned(), sha256_file(&args.input)?),
    ]);
    save_safetensors(&args.output, &converted, &metadata)?;
    report(args, &architecture, &inventory, &converted);
    Ok(())
}

/// What the flags or the file's own metadata say, else what its tensors look like.
fn architecture(args: &Args, weights: &TensorMap) -> anyhow::Result<Architecture> {
    let embedding = weights.get("embedding.weight").and_then(|tensor| tensor.shape.first().copied());
    if let Some(named) = &args.arch {
        if Path::new(named).is_file() {
            return read_json(Path::new(named));
        }
        return Ok(preset(named)?
            .architecture
            .with_embedding_layer(embedding)
            .with_sub_blocks(args.sub_blocks));
    }
    // A PyTorch file has no such metadata.
    let metadata = load_metadata(&args.input).unwrap_or_default();
    if let Some(text) = metadata.get("architecture") {
        let architecture: Architecture = serde_json::from_str(text)
            .with_context(|| format!("{}: the architecture in its metadata", args.input.display()))?;
        let is_dense = architecture.sub_blocks() == 1;
        return Ok(if is_dense { architecture.with_sub_blocks(args.sub_blocks) } else { architecture });
    }
    arch::infer(weights, args.sub_blocks, args.heads).map_err(|error| {
        anyhow::anyhow!("{}: {}; --arch or --heads can say what it is", args.input.display(), error.reason)
    })
}

/// An architecture by itself, or the one of a manifest.
fn read_json(path: &Path) -> anyhow::Result<Architecture> {
    let text = fs_err::read_to_string(path)?;
    let mut json: serde_json::Value =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    if let Some(inner) = json.get_mut("architecture") {
        json = inner.take();
    }
    serde_json::from_value(json).with_context(|| format!("{}: no architecture", path.display()))
}

fn list_misfits(inventory: &Inventory) {
    for spec in &inventory.missing {
        eprintln!("missing: {} {:?}", spec.name, spec.shape);
    }
    for (spec, found) in &inventory.misshapen {
        eprintln!("of another shape: {} is {found:?}, the network needs {:?}", spec.name, spec.shape);
    }
    for name in &inventory.unexpected {
        eprintln!("unknown: {name}");
    }
}

fn report(args: &Args, architecture: &Architecture, inventory: &Inventory, converted: &TensorMap) {
    let list = |what: &str, names: &[String]| {
        if !names.is_empty() {
            eprintln!("{what}: {}", names.join(", "));
        }
    };
    list("left out, no embedding depends on them", &inventory.dropped);
    list("kept as they are", &inventory.passed_on);
    if args.fold {
        list("left out, routers", &inventory.gates);
    }
    let form = if args.fold { WeightForm::Dense } else { WeightForm::Factorized };
    println!(
        "{}: {} ({}) -> {} ({form}, {} tensors, K = {})",
        serde_json::to_string(architecture).unwrap_or_default(),
        args.input.display(),
        inventory.form,
        args.output.display(),
        converted.len(),
        architecture.sub_blocks()
    );
}
