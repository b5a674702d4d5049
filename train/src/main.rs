//! `dfml-train`: trains and judges factorised embedding networks.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod commands;

use commands::{convert, eval, fit};

/// Trains factorised embedding networks (DFML) on a catalogue's own labels.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  dfml-train fit --config configs/train/demo.toml --data CATALOGUE --out runs/demo
  dfml-train eval --checkpoint runs/demo/checkpoint.safetensors --data CATALOGUE --efforts
  dfml-train convert deit_small_distilled_patch16_224.pth deit-s.safetensors
  dfml verify runs/demo/model        # proves the export against libtorch's embeddings
  dfml serve --model runs/demo/model --catalogue STORE

Exit codes: 0 done, 1 an error (printed), 2 wrong usage, 130 stopped by Ctrl-C or SIGTERM (after a checkpoint).";

#[derive(Subcommand)]
enum Command {
    /// Train from pretrained weights; writes a run directory with checkpoints, figures, a report, and the model that `dfml` serves.
    Fit(fit::Args),
    /// Judge a checkpoint on a data set: retrieval, clusters, and what each part of the network costs and gives.
    Eval(eval::Args),
    Convert(convert::Args),
}

fn main() -> ExitCode {
    wait_without_spinning();
    keep_freed_memory();
    let done = match Cli::parse().command {
        Command::Fit(args) => fit::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Convert(args) => convert::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dfml-train: {error:#}");
            commands::exit_code(&error)
        }
    }
}

/// Starts the program again with OMP_WAIT_POLICY=PASSIVE, unless the variable is set. OpenMP's threads otherwise spin at every barrier, and where
/// another process wants the same cores, all wait for a thread that is not running: training was eight times as slow on a busy machine.
/// The library reads the variable before `main`, so setting it here would be too late.
#[cfg(target_os = "linux")]
fn wait_without_spinning() {
    use std::os::unix::process::CommandExt;
    const POLICY: &str = "OMP_WAIT_POLICY";
    if std::env::var_os(POLICY).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // Only returns if it fails, and then this process goes on as it is.
        let _ = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(POLICY, "PASSIVE")
            .exec();
    }
}

#[cfg(not(target_os = "linux"))]
fn wait_without_spinning() {}

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
