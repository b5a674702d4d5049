//! `dfml-train`: trains factorised embedding networks.

mod commands;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use dfml_train::config::TrainConfig;
use dfml_train::trainer::{FitOptions, fit, summary};

/// Trains factorised embedding networks (DFML) on a catalogue's own labels.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  dfml-train fit --config configs/train/demo.toml --data CATALOGUE --weights efficientnet-lite0.pth --out runs/demo
  dfml-train convert deit_small_distilled_patch16_224.pth deit-s.safetensors
  dfml verify runs/demo/model        # proves the export against libtorch's embeddings
  dfml serve --model runs/demo/model --catalogue STORE

Exit codes: 0 done, 1 an error (printed), 2 wrong usage.";

#[derive(Subcommand)]
enum Command {
    /// Train from pretrained weights; writes OUT/checkpoint.safetensors, OUT/metrics.json and OUT/model/.
    Fit(FitArgs),
    Convert(commands::convert::Args),
}

#[derive(clap::Args)]
struct FitArgs {
    /// Settings (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folder with the lists the settings name, in Stanford Online Products layout.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder that the lists' paths start from; the lists' own folder if not given.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Pretrained weights (.pth or .safetensors).
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Run directory to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passes over the training list, over the settings' `optimizer.epochs`.
    #[arg(long)]
    epochs: Option<usize>,
}

fn main() -> ExitCode {
    keep_freed_memory();
    let result = match Cli::parse().command {
        Command::Fit(args) => run(args),
        Command::Convert(args) => commands::convert::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dfml-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Tells glibc to keep freed memory. Each training step allocates and frees the same hundreds of megabytes of activations; by default
/// they go back to the kernel and are zeroed page by page again, which costs up to half of the time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    // SAFETY: mallopt only sets tunables of the allocator, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}

fn run(args: FitArgs) -> anyhow::Result<()> {
    let mut config = TrainConfig::read(&args.config)?;
    if let Some(epochs) = args.epochs {
        config.optimizer.epochs = epochs;
        config.check().map_err(anyhow::Error::msg)?;
    }
    let out = args.out.clone();
    let options = FitOptions {
        config,
        data: args.data,
        root: args.root,
        weights: args.weights,
        out: args.out,
        seed: args.seed,
    };
    let report = fit(&options).with_context(|| format!("training into {}", out.display()))?;
    println!("before training: {}", summary(&report.before));
    println!("after training:  {}", summary(&report.after));
    println!(
        "{} images, {:.0} s of training; model in {}",
        report.images,
        report.train_seconds,
        out.join("model").display()
    );
    Ok(())
}
