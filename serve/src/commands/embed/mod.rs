//! `dfml embed`: image files to vectors on standard output or in a file.

mod output;
mod parquet;
mod shard;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use dfml_serve::{
    bulk::{BulkOptions, embed_files},
    engine::Engine,
    settings::Settings,
};
use output::{Format, Output};
use shard::Shard;

use super::{Done, interrupt::Interrupt, options::EngineArgs, progress::Progress};

/// Embed image files.
///
/// Results come in the order of the files, a block of files at a time, so that memory does not grow with their number.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml embed chair.jpg lamp.png --model model
  dfml embed photos/*.jpg --model model --format npy --out vectors.npy
  dfml embed --list photos.txt --shard 3/16 --model model --format parquet --out vectors-3.parquet")]
pub(super) struct Args {
    /// Image files.
    #[arg(required_unless_present = "list", value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Text file with one image path a line, from that file's own folder if it is not absolute.
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    list: Option<PathBuf>,
    /// Only part I of N of the files, 1 to N, to share the work out over machines. The parts together are the whole.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What is written.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Write to this file instead of standard output. It appears when it is complete.
    #[arg(long, short, value_name = "FILE", required_if_eq("format", "parquet"))]
    out: Option<PathBuf>,
    /// Exit with code 1 if any image was left out.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// A file's vector, or why there is none.
type Embedded = Result<Vec<f32>, String>;

/// Files that are embedded and written together.
const BLOCK: usize = 4096;

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    let mut files = match &args.list {
        Some(list) => read_list(list)?,
        None => args.files,
    };
    if let Some(shard) = args.shard {
        files = shard.of(files);
    }
    let (engine, bulk) = args.engine.load_bulk(&args.model, &mut settings)?;
    let dim = engine.manifest().embedding_dim;
    let mut output = Output::open(args.format, args.out.as_deref(), files.len(), dim)?;
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new("embedding", files.len());
    let mut left_out = 0;
    for block in files.chunks(BLOCK) {
        let Some(results) = embed(&engine, &bulk, block, &interrupt, &mut progress)? else {
            return Ok(Done::Interrupted);
        };
        left_out += results.iter().filter(|result| result.is_err()).count();
        output.write(block, &results)?;
    }
    progress.finish();
    output.finish()?;
    if left_out > 0 && args.strict {
        bail!("{left_out} of {} images were left out", files.len());
    }
    Ok(Done::Complete)
}

/// Embeds the files in their order; `None` if interrupted.
fn embed(
    engine: &Engine,
    bulk: &BulkOptions,
    files: &[PathBuf],
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> anyhow::Result<Option<Vec<Embedded>>> {
    let mut results = vec![Err(String::new()); files.len()];
    embed_files(engine, files, bulk, |position, result| {
        results[position] = result.map(|embedding| embedding.vector).map_err(|error| {
            progress.line(&format!("warning: {error}"));
            error.kind.to_string()
        });
        progress.step();
        if interrupt.requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok((!interrupt.requested()).then_some(results))
}

/// The paths of a list file.
fn read_list(list: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let text = fs_err::read_to_string(list)?;
    let folder = list.parent().unwrap_or(Path::new(""));
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let files: Vec<PathBuf> = lines.map(|line| folder.join(line)).collect();
    if files.is_empty() {
        return Err(anyhow::anyhow!("no paths in it")).context(list.display().to_string());
    }
    Ok(files)
}
