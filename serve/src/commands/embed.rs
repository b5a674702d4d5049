//! `dfml embed`: image files to vectors on standard output or in a file.

use std::{
    io::{self, BufWriter, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use dfml_serve::{
    bulk::{BulkOptions, embed_files},
    engine::Engine,
    npy,
    settings::Settings,
};
use serde::Serialize;

use super::{Done, interrupt::Interrupt, options::EngineArgs, progress::Progress};

/// Embed image files.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  dfml embed chair.jpg lamp.png --model model
  dfml embed photos/*.jpg --model model --format npy --out vectors.npy")]
pub(super) struct Args {
    /// Image files.
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Model directory.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What is written.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Write to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Exit with code 1 if any image was left out.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One object a line, in the order of the files: path and embedding, or path and error.
    Jsonl,
    /// A NumPy array, f32 [files, dimensions], in the order of the files; an image that was left out is a row of NaN.
    Npy,
}

/// A file's vector, or why there is none.
type Embedded = Result<Vec<f32>, String>;

/// A line of the JSON output.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

pub(super) fn run(args: Args, mut settings: Settings) -> anyhow::Result<Done> {
    let (engine, bulk) = args.engine.load_bulk(&args.model, &mut settings)?;
    let Some(results) = embed(&engine, &bulk, &args.files)? else { return Ok(Done::Interrupted) };
    let left_out = results.iter().filter(|result| result.is_err()).count();
    let dim = engine.manifest().embedding_dim;
    match &args.out {
        Some(path) => {
            let file = fs_err::File::create(path)?;
            write(args.format, &args.files, &results, dim, BufWriter::new(file))
                .with_context(|| path.display().to_string())?;
        }
        None => write(args.format, &args.files, &results, dim, BufWriter::new(io::stdout().lock()))?,
    }
    if left_out > 0 && args.strict {
        bail!("{left_out} of {} images were left out", args.files.len());
    }
    Ok(Done::Complete)
}

/// Embeds the files in their order; `None` if interrupted.
fn embed(engine: &Engine, bulk: &BulkOptions, files: &[PathBuf]) -> anyhow::Result<Option<Vec<Embedded>>> {
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new("embedding", files.len());
    let mut results = vec![Err(String::new()); files.len()];
    embed_files(engine, files, bulk, |position, result| {
        results[position] = result.map(|embedding| embedding.vector).map_err(|error| {
            progress.line(&format!("warning: {error}"));
            error.kind.to_string()
        });
        progress.step();
        if interrupt.requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    progress.finish();
    Ok((!interrupt.requested()).then_some(results))
}

fn write(
    format: Format,
    files: &[PathBuf],
    results: &[Embedded],
    dim: usize,
    mut out: impl Write,
) -> anyhow::Result<()> {
    match format {
        Format::Jsonl => {
            for (path, result) in files.iter().zip(results) {
                let (embedding, error) = (result.as_deref().ok(), result.as_ref().err().map(String::as_str));
                serde_json::to_writer(&mut out, &Line { path, embedding, error })?;
                out.write_all(b"\n")?;
            }
        }
        Format::Npy => {
            out.write_all(&npy::header(files.len(), dim))?;
            let missing = vec![f32::NAN; dim];
            for result in results {
                let row = result.as_ref().unwrap_or(&missing);
                row.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?;
            }
        }
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_is_what_numpy_writes() {
        // Bytes of numpy.save for zeros((2, 3), float32), numpy 2.3.
        let header = npy::header(2, 3);
        assert_eq!(header.len(), 128);
        assert!(header.starts_with(
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  "
        ));
        assert_eq!(header[127], b'\n');
    }

    #[test]
    fn a_file_that_was_left_out_keeps_its_place() {
        let files = ["a.jpg".into(), "b.jpg".into()];
        let results = [Err("it is cut off".to_owned()), Ok(vec![0.5, -0.5])];
        let mut out = Vec::new();
        write(Format::Jsonl, &files, &results, 2, &mut out).expect("writes");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(
            text,
            "{\"path\":\"a.jpg\",\"error\":\"it is cut off\"}\n{\"path\":\"b.jpg\",\"embedding\":[0.5,-0.5]}\n"
        );
        let mut out = Vec::new();
        write(Format::Npy, &files, &results, 2, &mut out).expect("writes");
        let rows: Vec<f32> =
            out[128..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert!(rows[0].is_nan() && rows[1].is_nan());
        assert_eq!(rows[2..], [0.5, -0.5]);
    }
}
