//! `dfml bench`: how fast this machine is at the server's work.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Subcommand;
use dfml_serve::{
    bulk::{BulkOptions, EmbedBench, Rate, bench_embed},
    settings::Settings,
};

use super::{Done, options::EngineArgs};

/// Measure how fast this machine is.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Embed(EmbedArgs),
    Index(super::bench_index::Args),
}

/// Image files to vectors: end to end, the network alone, and decoding alone.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  dfml bench embed --model model --images catalogue --count 500 --json bench.json"
)]
struct EmbedArgs {
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder of images; folders inside it are searched too.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Most images to use.
    #[arg(long, value_name = "N", default_value_t = 256)]
    count: usize,
    /// Rounds; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Images per run of the network.
    #[arg(long, value_name = "N", default_value_t = BulkOptions::default().batch)]
    batch: usize,
    /// Also write the figures to a JSON file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: Args, settings: Settings) -> anyhow::Result<Done> {
    match args.what {
        What::Embed(args) => embed(args, settings),
        What::Index(args) => super::bench_index::run(args),
    }
}

fn embed(args: EmbedArgs, mut settings: Settings) -> anyhow::Result<Done> {
    let files = images_in(&args.images, args.count)?;
    let (engine, bulk) = args.engine.load_bulk(&args.model, &mut settings)?;
    let options = BulkOptions { batch: args.batch.max(1), ..bulk };
    let figures = bench_embed(&engine, &files, &options, args.rounds)?;
    print(&figures);
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

fn print(figures: &EmbedBench) {
    println!("{} images, batch {}, median of {} rounds", figures.images, figures.batch, figures.rounds);
    let row = |what: &str, rate: Rate| {
        println!(
            "{what:16} {:8.1} images/s  {:8.1} images per core-second",
            rate.per_second, rate.per_core_second
        );
    };
    row("end to end", figures.end_to_end);
    row("network alone", figures.session);
    row("decoding alone", figures.preprocess);
    println!(
        "end to end / network alone: {:.3} on the clock, {:.3} in processor time; workers' cores {:.0} % busy",
        figures.ratios.end_to_end_over_session,
        figures.ratios.end_to_end_over_session_cpu,
        100.0 * figures.busy
    );
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
