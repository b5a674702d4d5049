//! `dfml-train eval`.

use std::path::PathBuf;

use dfml_train::config::TrainConfig;
use dfml_train::data::read_splits;
use dfml_train::trainer::{Judged, LoadedNetwork, judge_efforts};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml-train eval --checkpoint runs/sop/checkpoint.safetensors --data Stanford_Online_Products
  dfml-train eval --checkpoint runs/sop/checkpoints/best.safetensors --data Stanford_Online_Products --efforts --json eval.json
  dfml-train eval --checkpoint deit_small_distilled_patch16_224.pth --config configs/train/cub.toml --data CUB_200_2011

The same code judges exported models: `dfml eval --clusters`.")]
pub(crate) struct Args {
    /// A run's checkpoint.safetensors, any of its checkpoints/, or weights (dense or factorised).
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// The data folder, in the layout that the settings name (data.layout).
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder that the paths of a list in SOP layout start from; the list's own folder if not given.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Settings (TOML); without, those that the checkpoint was trained with.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any setting, over the file's; may be given several times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Ranks at which recall is measured; those customary for the layout if not given.
    #[arg(short, value_name = "K")]
    k: Vec<u32>,
    /// Also judge the routed network and each sub-block by itself, with what they cost.
    #[arg(long)]
    efforts: bool,
    /// Leave out k-means, which takes long on large sets (no NMI, AMI, F1).
    #[arg(long)]
    no_clusters: bool,
    /// Also write the figures to a JSON file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let given = args.config.as_deref().map(|path| TrainConfig::read(path, &args.set)).transpose()?;
    let loaded = LoadedNetwork::load(&args.checkpoint, given, &args.set)?;
    let splits = read_splits(&loaded.config.data, &args.data, args.root.as_deref())?;
    let recall_at = if args.k.is_empty() { loaded.config.data.layout.recall_at().to_vec() } else { args.k };
    let judged = judge_efforts(&loaded, &splits.test, &recall_at, args.efforts, !args.no_clusters)?;
    println!("{}", Judged::table(&judged));
    if let Some(path) = &args.json {
        fs_err::write(path, serde_json::to_string_pretty(&judged)? + "\n")?;
    }
    Ok(())
}
