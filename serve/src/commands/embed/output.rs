//! Where vectors are written, and as what.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use dfml_serve::npy;
use serde::Serialize;
use tempfile::NamedTempFile;

use super::{Embedded, parquet};

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// One object a line, in the order of the files: path and embedding, or path and error.
    Jsonl,
    /// A NumPy array, f32 [files, dimensions], in the order of the files; an image that was left out is a row of NaN.
    Npy,
    /// A Parquet file with columns path, embedding (list of f32) and error, in the order of the files.
    Parquet,
}

/// A line of the JSON output.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// An output that is being written. A file gets its name when it is complete.
pub(super) struct Output {
    writer: Writer,
    file: Option<(NamedTempFile, PathBuf)>,
}

enum Writer {
    Jsonl(Sink),
    Npy(Sink, usize),
    Parquet(parquet::Writer<Sink>),
}

type Sink = Box<dyn Write + Send>;

impl Output {
    /// Begins an output of `rows` vectors of `dim` values.
    pub(super) fn open(format: Format, path: Option<&Path>, rows: usize, dim: usize) -> anyhow::Result<Self> {
        let (file, sink): (_, Sink) = match path {
            Some(path) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
                    .with_context(|| path.display().to_string())?;
                let handle: File = file.reopen()?;
                (Some((file, path.to_path_buf())), Box::new(BufWriter::new(handle)))
            }
            None => (None, Box::new(BufWriter::new(io::stdout()))),
        };
        Ok(Self { writer: Writer::new(format, sink, rows, dim)?, file })
    }

    /// Adds results in the order of their files.
    pub(super) fn write(&mut self, files: &[PathBuf], results: &[Embedded]) -> anyhow::Result<()> {
        self.writer.write(files, results)
    }

    /// Completes the output.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.writer.finish()?;
        if let Some((file, path)) = self.file {
            // A temporary file is its owner's alone; what comes of it is as readable as any other.
            #[cfg(unix)]
            fs_err::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
            file.persist(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

impl Writer {
    fn new(format: Format, mut sink: Sink, rows: usize, dim: usize) -> anyhow::Result<Self> {
        Ok(match format {
            Format::Jsonl => Self::Jsonl(sink),
            Format::Npy => {
                sink.write_all(&npy::header(rows, dim))?;
                Self::Npy(sink, dim)
            }
            Format::Parquet => Self::Parquet(parquet::Writer::new(sink)?),
        })
    }

    fn write(&mut self, files: &[PathBuf], results: &[Embedded]) -> anyhow::Result<()> {
        match self {
            Self::Jsonl(sink) => {
                for (path, result) in files.iter().zip(results) {
                    let (embedding, error) =
                        (result.as_deref().ok(), result.as_ref().err().map(String::as_str));
                    serde_json::to_writer(&mut *sink, &Line { path, embedding, error })?;
                    sink.write_all(b"\n")?;
                }
            }
            Self::Npy(sink, dim) => {
                let missing = vec![f32::NAN; *dim];
                for result in results {
                    let row = result.as_ref().unwrap_or(&missing);
                    row.iter().try_for_each(|value| sink.write_all(&value.to_le_bytes()))?;
                }
            }
            Self::Parquet(writer) => writer.write(files, results)?,
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Jsonl(mut sink) | Self::Npy(mut sink, _) => sink.flush()?,
            Self::Parquet(writer) => writer.finish()?.flush()?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("out");
        let files = ["a.jpg", "b.jpg"].map(PathBuf::from);
        let results = [Err("it is cut off".to_owned()), Ok(vec![0.5, -0.5])];
        let mut output = Output::open(format, Some(&path), 2, 2).expect("opens");
        for (file, result) in files.iter().zip(&results) {
            output.write(std::slice::from_ref(file), std::slice::from_ref(result)).expect("writes");
            assert!(!path.exists(), "it is not complete yet");
        }
        output.finish().expect("ends");
        fs_err::read(path).expect("complete")
    }

    #[test]
    fn a_file_that_was_left_out_keeps_its_place() {
        let text = String::from_utf8(written(Format::Jsonl)).expect("text");
        assert_eq!(
            text,
            "{\"path\":\"a.jpg\",\"error\":\"it is cut off\"}\n{\"path\":\"b.jpg\",\"embedding\":[0.5,-0.5]}\n"
        );
        let rows: Vec<f32> = written(Format::Npy)[128..]
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        assert!(rows[0].is_nan() && rows[1].is_nan());
        assert_eq!(rows[2..], [0.5, -0.5]);
        assert!(written(Format::Parquet).ends_with(b"PAR1"));
    }
}
