//! `dfml-train fit`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use dfml_train::config::TrainConfig;
use dfml_train::trainer::{FitOptions, fit};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml-train fit --config configs/train/sop.toml --data Stanford_Online_Products \\
      --weights deit_small_distilled_patch16_224.pth --out runs/sop
  dfml-train fit --config configs/train/demo.toml --data SHOP --out runs/shop --set data.layout=folders
  dfml-train fit --config configs/train/demo.toml --data SHOP --out runs/shop --resume   # after Ctrl-C or a crash
  dfml-train fit --config configs/train/demo.toml --data SHOP --out runs/plain --set loss.routed=0 --set loss.distill=0

In OUT: config.toml, checkpoints/, checkpoint.safetensors (factorised, with routers), metrics.jsonl, metrics.json, tensorboard/,
plots/, report.html and model/, which `dfml verify`, `dfml index` and `dfml serve` load.")]
pub(crate) struct Args {
    /// Settings (TOML); those of the repository are in configs/train/.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The data folder, in the layout that the settings name (data.layout).
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder that the paths of a list in SOP layout start from; the list's own folder if not given.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Pretrained weights (.pth or .safetensors); without, those of the settings, or EfficientNet-Lite0's as `cargo xtask setup` fetched them.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Run directory to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on from the last checkpoint in the run directory, if there is one.
    #[arg(long)]
    resume: bool,
    /// Passes over the training list, over the settings' `optimizer.epochs`.
    #[arg(long)]
    epochs: Option<usize>,
    /// Device, over the settings' `run.device`: cpu, cuda, cuda:N or auto.
    #[arg(long)]
    device: Option<String>,
    /// Any setting, over the file's; may be given several times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let mut overrides = args.set;
    overrides.extend(args.epochs.map(|epochs| format!("optimizer.epochs={epochs}")));
    overrides.extend(args.device.map(|device| format!("run.device={device}")));
    let config = TrainConfig::read(&args.config, &overrides)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        eprintln!("stopping after this step, with a checkpoint; once more to stop at once");
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")?;
    let options = FitOptions {
        config,
        data: args.data,
        root: args.root,
        weights: args.weights,
        out: args.out,
        seed: args.seed,
        resume: args.resume,
        stop,
    };
    let report = fit(&options).with_context(|| format!("training into {}", options.out.display()))?;
    if let Some(before) = &report.before {
        println!("before training: {}", before.one_line());
    }
    println!("after training:  {}", report.after.one_line());
    println!(
        "{} images, {:.0} s of training, weights of epoch {}; model in {}, report in {}",
        report.images,
        report.train_seconds,
        report.best_epoch,
        options.out.join("model").display(),
        options.out.join("report.html").display()
    );
    Ok(())
}
