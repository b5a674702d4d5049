//! `dfml export`: a weight file becomes a model directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use dfml_index::sop::SopList;
use dfml_models::{
    Architecture, ExportRequest, Lineage, Manifest, Preset, TensorMap, Transform, load_weights, preset,
    sha256_file, write_model_dir,
};
use dfml_serve::{bulk::fit_embedding, settings::Settings};

use super::{Done, interrupt::Interrupt, options::EngineArgs, progress::Progress, variant::VariantArgs};

/// Make a model directory from pretrained weights, or a cheaper form of a model.
///
/// With --fit-embedding the network gets a linear embedding layer: the principal components of its features of the
/// listed images. That is the model "before training".
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml export --weights efficientnet-lite0.pth --fit-embedding Ebay_train.txt --dim 384 --out model
  dfml export --weights deit_small_distilled.pth --arch deit_small_distilled_patch16_224 --out model
  dfml export --from model --precision int8 --calibrate train.txt --gallery gallery.txt --queries views.txt --out model-int8
  dfml export --from run/model --effort routed --checkpoint run/checkpoint.safetensors --gallery gallery.txt --out routed")]
pub(super) struct Args {
    /// Weight file: .safetensors, or PyTorch .pth.
    #[arg(long, value_name = "FILE", required_unless_present = "from")]
    weights: Option<PathBuf>,
    /// Instead of weights, a model directory, of which a cheaper form is to be made.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["weights", "fit_embedding", "crop", "resize_short", "name"])]
    from: Option<PathBuf>,
    /// The network that the weights are for, by timm's name: efficientnet_lite0, deit_small_distilled_patch16_224,
    /// vit_base_patch16_224, resnet50 ...
    #[arg(long, value_name = "NAME", value_parser = network, default_value = "efficientnet_lite0")]
    arch: Preset,
    /// List of images (columns image_id class_id super_class_id path) whose features the embedding layer is fitted to.
    #[arg(long, value_name = "LIST")]
    fit_embedding: Option<PathBuf>,
    /// Folder that the list's paths start from; the list's own folder if not given.
    #[arg(long, value_name = "DIR", requires = "fit_embedding")]
    root: Option<PathBuf>,
    /// Dimensions of the fitted embedding.
    #[arg(long, value_name = "N", default_value_t = 384)]
    dim: usize,
    /// Side of the square crop in pixels; the network's own resolution if not given.
    #[arg(long, value_name = "PIXELS")]
    crop: Option<u32>,
    /// Length of the short side before the crop; 8/7 of the crop if not given.
    #[arg(long, value_name = "PIXELS")]
    resize_short: Option<u32>,
    /// The model's name in its manifest; the weight file's name if not given.
    #[arg(long)]
    name: Option<String>,
    /// Model directory to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    variant: VariantArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// A network by timm's name.
fn network(name: &str) -> Result<Preset, String> {
    preset(name).map_err(|error| error.reason)
}

impl Args {
    fn transform(&self) -> Transform {
        let crop = self.crop.unwrap_or(self.arch.image_size);
        let resize_short = self.resize_short.unwrap_or_else(|| crop.saturating_add(crop / 7));
        Transform::square(resize_short, crop, self.arch.scale)
    }
}

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    args.engine.apply(&mut settings);
    let manifest = match (&args.from, &args.weights) {
        (Some(base), _) => {
            if !args.variant.is_wanted() {
                bail!("--from makes a cheaper form: say which with --precision or --effort");
            }
            args.variant.make(base, &args.out, &settings.engine_options().for_throughput())?
        }
        (None, Some(weights)) if args.variant.is_wanted() => {
            let full = tempfile::tempdir()?;
            match from_weights(&args, weights, &settings, full.path())? {
                Some(_) => {
                    args.variant.make(full.path(), &args.out, &settings.engine_options().for_throughput())?
                }
                None => None,
            }
        }
        (None, Some(weights)) => from_weights(&args, weights, &settings, &args.out)?,
        (None, None) => bail!("--weights or --from is needed"),
    };
    let Some(manifest) = manifest else { return Ok(Done::Interrupted) };
    println!(
        "{}: {}, {} dimensions, {}",
        args.out.display(),
        manifest.name,
        manifest.embedding_dim,
        manifest.fingerprint()
    );
    Ok(Done::Complete)
}

/// Writes the full model to `out`; `None` if interrupted.
fn from_weights(
    args: &Args,
    file: &Path,
    settings: &Settings,
    out: &Path,
) -> anyhow::Result<Option<Manifest>> {
    let mut weights = load_weights(file)?;
    // A file that was trained with an embedding layer carries it along.
    let embedding_dim = weights.get("embedding.weight").and_then(|tensor| tensor.shape.first().copied());
    let mut architecture = args.arch.architecture.clone().with_embedding_layer(embedding_dim);
    let transform = args.transform();
    let mut lineage = Lineage {
        weights_sha256: sha256_file(file)?,
        data_sha256: None,
        config_sha256: None,
        checkpoint_sha256: None,
        seed: None,
        producer: format!("dfml export {}", env!("CARGO_PKG_VERSION")),
    };
    if let Some(list) = &args.fit_embedding {
        lineage.data_sha256 = Some(sha256_file(list)?);
        let Some(fitted) = fit(args, settings, &architecture, weights, &transform, list)? else {
            return Ok(None);
        };
        (architecture, weights) = fitted;
    }
    let stem =
        file.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let request = ExportRequest {
        name: args.name.clone().unwrap_or(stem),
        architecture,
        weights: &weights,
        transform,
        lineage,
        reference: None,
    };
    Ok(Some(write_model_dir(out, &request)?))
}

/// Adds the embedding layer; `None` if interrupted.
fn fit(
    args: &Args,
    settings: &Settings,
    architecture: &Architecture,
    weights: TensorMap,
    transform: &Transform,
    list: &Path,
) -> anyhow::Result<Option<(Architecture, TensorMap)>> {
    let Architecture::EfficientnetLite(net) = architecture else {
        bail!("--fit-embedding is for EfficientNet-Lite only");
    };
    if net.embedding_dim.is_some() {
        bail!(
            "{} already has an embedding layer; leave out --fit-embedding to keep it",
            args.weights.as_deref().unwrap_or(Path::new("the network")).display()
        );
    }
    let sop = SopList::read(list, args.root.as_deref())?;
    let paths: Vec<PathBuf> = sop.entries.iter().map(|entry| sop.root.join(&entry.path)).collect();
    let interrupt = Interrupt::listen()?;
    let options = settings.engine_options().for_throughput();
    let mut progress = Progress::new("features", paths.len());
    let features =
        fit_embedding::pooled_features(net, &weights, transform, &paths, &options, |position, error| {
            if let Some(error) = error {
                progress.line(&format!(
                    "warning: {}:{}: {error}",
                    list.display(),
                    sop.entries[position].line
                ));
            }
            progress.step();
            !interrupt.requested()
        })?;
    progress.finish();
    if interrupt.requested() {
        return Ok(None);
    }
    if features.skipped > 0 {
        eprintln!("warning: {} of {} images were left out", features.skipped, paths.len());
    }
    let (net, weights) = fit_embedding::add_layer(net, weights, &features, args.dim)
        .with_context(|| format!("embedding layer from {}", list.display()))?;
    Ok(Some((Architecture::EfficientnetLite(net), weights)))
}
