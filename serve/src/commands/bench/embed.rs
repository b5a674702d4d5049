//! `dfml bench embed`: image files to vectors, beside the network alone, Python, and the machine's peak.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use dfml_models::{
    Architecture, EfficientNetLite, ExportRequest, Lineage, Tensor, TensorMap, Transform, Vit, cache_dir,
    load_weights, sha256_file, write_model_dir,
};
use dfml_serve::{
    bench::{EmbedBench, Gemm, Peer, Plan, Rate, bench_embed, write_pictures},
    bulk::BulkOptions,
    engine::{Engine, EngineOptions, Library},
    settings::Settings,
};

use super::super::{Done, options::EngineArgs};

/// Image files to vectors: end to end, the network alone, Python doing the same, and the machine's peak.
///
/// Everything is taken once per round, so that the ratios hold on a machine that does other work too. Without --model the
/// pretrained EfficientNet-Lite0 is measured, without --images pictures that are made for it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml bench embed
  dfml bench embed --model model --images catalogue --count 500 --json bench.json
  dfml bench embed --model model-int8 --no-python --no-peak")]
pub(super) struct Args {
    /// Model directory; the pretrained EfficientNet-Lite0 if not given.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Folder of images; folders inside it are searched too.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Most images to use.
    #[arg(long, value_name = "N", default_value_t = 256)]
    count: usize,
    /// Rounds; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Images per run of the network; as the bulk commands have it if not given.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// The Python that has Pillow and ONNX Runtime; that of `cargo xtask setup --with peers` if not given.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Leave Python out.
    #[arg(long)]
    no_python: bool,
    /// Leave out the machine's peak, and DeiT-S beside it.
    #[arg(long)]
    no_peak: bool,
    /// Also write the figures to a JSON file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Where the script of the Python peer lies in the sources.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/peers/embed_pillow.py");

pub(in crate::commands) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    let made = tempfile::tempdir()?;
    let files = match &args.images {
        Some(folder) => images_in(folder, args.count)?,
        None => write_pictures(made.path(), args.count)?,
    };
    let model = match &args.model {
        Some(model) => model.clone(),
        None => pretrained(made.path())?,
    };
    let (engine, bulk) = args.engine.load_bulk(&model, &mut settings)?;
    let bulk = BulkOptions { batch: args.batch.unwrap_or(bulk.batch).max(1), ..bulk };
    let workers = bulk.workers.unwrap_or(1);
    let peer = match args.python() {
        Some(python) => Some(Peer::start(&python, Path::new(SCRIPT), &model, &files, (bulk.batch, workers))?),
        None => None,
    };
    let options = settings.engine_options();
    let deit =
        if args.no_peak { None } else { Some(deit_small(made.path(), &options.clone().for_throughput())?) };
    let peak = match &deit {
        Some((engine, macs)) => {
            let library = Library::load(options.library.as_deref(), options.provider)?;
            Some((Gemm::fastest(&library, workers)?, engine, *macs))
        }
        None => None,
    };
    let plan = Plan { engine: &engine, files: &files, bulk, rounds: args.rounds, peer, peak };
    let figures = bench_embed(plan)?;
    print(&figures, &engine);
    if let Some(path) = &args.json {
        let report = serde_json::json!({
            "model": engine.manifest().name,
            "fingerprint": engine.manifest().fingerprint(),
            "provider": engine.provider(),
            "embed": figures,
            "ratios": figures.ratios,
        });
        fs_err::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(Done::Complete)
}

impl Args {
    /// The interpreter to compare with, if there is one.
    fn python(&self) -> Option<PathBuf> {
        if self.no_python {
            return None;
        }
        let python = self.python.clone().unwrap_or_else(|| cache_dir().join("peers/bin/python"));
        if self.python.is_none() && !python.is_file() {
            eprintln!("warning: Python is left out; `cargo xtask setup --with peers` installs what it needs");
            return None;
        }
        Some(python)
    }
}

fn print(figures: &EmbedBench, engine: &Engine) {
    println!("{}: {}", engine.manifest().name, engine.provider());
    println!(
        "{} images, batch {}, {} workers, median of {} rounds",
        figures.images, figures.batch, figures.workers, figures.rounds
    );
    let row = |what: &str, rate: Rate, unit: &str| {
        println!("{what:18} {:8.1} {unit}/s  {:8.1} per core-second", rate.per_second, rate.per_core_second);
    };
    let rates = &figures.rates;
    row("end to end", rates.end_to_end, "images");
    row("network alone", rates.session, "images");
    row("decoding alone", rates.preprocess, "images");
    if let Some(python) = rates.python {
        row("Python + Pillow", python, "images");
    }
    if let (Some(session), Some(gemm)) = (rates.peak_session, rates.gemm_gflops) {
        row("DeiT-S alone", session, "images");
        row("matrix products", gemm, "GFLOP");
    }
    let ratio = |what: &str, clock: Option<f64>, cpu: Option<f64>| {
        if let (Some(clock), Some(cpu)) = (clock, cpu) {
            println!("{what:36} {clock:.3} on the clock, {cpu:.3} in processor time");
        }
    };
    let ratios = &figures.ratios;
    ratio(
        "end to end / network alone",
        Some(ratios.end_to_end_over_session),
        Some(ratios.end_to_end_over_session_cpu),
    );
    ratio("end to end / Python", ratios.end_to_end_over_python, ratios.end_to_end_over_python_cpu);
    ratio(
        "DeiT-S / peak of matrix products",
        ratios.session_over_gemm_peak,
        ratios.session_over_gemm_peak_cpu,
    );
    println!("workers' cores {:.1} % busy end to end", 100.0 * figures.busy);
}

/// The pretrained network as a model directory in `folder`.
fn pretrained(folder: &Path) -> anyhow::Result<PathBuf> {
    let file = cache_dir().join("weights/efficientnet-lite0.pth");
    let weights =
        load_weights(&file).context("--model names another model; `cargo xtask setup` fetches this one")?;
    let dir = folder.join("efficientnet-lite0");
    let architecture = Architecture::EfficientnetLite(EfficientNetLite::lite0());
    write(&dir, architecture, &weights, Transform::efficientnet_lite(224), sha256_file(&file)?)?;
    Ok(dir)
}

/// DeiT-S with weights that mean nothing, and its multiply-accumulates for one image as it is exported: the last block
/// computes only the tokens that are read.
fn deit_small(folder: &Path, options: &EngineOptions) -> anyhow::Result<(Engine, u64)> {
    let net = Vit::deit_small_distilled();
    let (dim, hidden) = (net.dim as u64, net.mlp_hidden as u64);
    let (patches, read) = (net.patches() as u64, net.prefix_tokens() as u64);
    let tokens = patches + read;
    // Queries and output layer, scores and mixing, MLP: what is left out for the tokens that are not read.
    let own = 2 * dim * dim + 2 * tokens * dim + 2 * dim * hidden;
    let macs = patches * dim * 3 * (net.patch_size * net.patch_size) as u64
        + net.depth as u64 * tokens * (2 * dim * dim + own)
        - (tokens - read) * own;
    let architecture = Architecture::Vit(net);
    let weights: TensorMap =
        architecture.dense_tensors().into_iter().map(|spec| (spec.name.clone(), noise(spec.shape))).collect();
    let dir = folder.join("deit-small");
    write(&dir, architecture, &weights, Transform::imagenet(256, 224), String::new())?;
    Ok((Engine::load(&dir, options)?, macs))
}

/// Small numbers of both signs.
fn noise(shape: Vec<usize>) -> Tensor {
    let mut state = 1u32;
    let count = shape.iter().product();
    let data = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 24) as f32 - 0.5) * 0.1
    });
    Tensor::new(shape, data.take(count).collect())
}

fn write(
    dir: &Path,
    architecture: Architecture,
    weights: &TensorMap,
    transform: Transform,
    weights_sha256: String,
) -> anyhow::Result<()> {
    let name = dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let lineage = Lineage {
        weights_sha256,
        data_sha256: None,
        config_sha256: None,
        checkpoint_sha256: None,
        seed: None,
        producer: format!("dfml bench {}", env!("CARGO_PKG_VERSION")),
    };
    write_model_dir(
        dir,
        &ExportRequest { name, architecture, weights, transform, lineage, reference: None },
    )?;
    Ok(())
}

/// Up to `count` image files of a folder, in the order of their paths.
fn images_in(folder: &Path, count: usize) -> anyhow::Result<Vec<PathBuf>> {
    const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
    let (mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder)? {
            let path = entry?.path();
            let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
            if path.is_dir() {
                folders.push(path);
            } else if extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str())) {
                files.push(path);
            }
        }
    }
    files.sort();
    files.truncate(count);
    if files.is_empty() {
        bail!("{}: no images in this folder (jpg, png, webp)", folder.display());
    }
    Ok(files)
}
