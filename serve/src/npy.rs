//! NumPy's file format: arrays of f32, `[rows, columns]`, row by row.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Values in a row.
    pub columns: usize,
    /// `[rows, columns]`.
    pub values: Vec<f32>,
}

/// An array that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no array of f32 with two dimensions, row by row.
    #[error("{}: {reason}; it must be a NumPy array of f32 [rows, columns] in C order", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Bytes before the text of the header: magic, version, length.
const BEFORE_TEXT: usize = 10;

/// Reads an array, of format version 1 to 3.
///
/// # Errors
/// [`NpyError`].
pub fn read(path: &Path) -> Result<Array, NpyError> {
    let bytes = std::fs::read(path).map_err(|source| NpyError::Io { path: path.to_path_buf(), source })?;
    parse(&bytes).map_err(|reason| NpyError::Format { path: path.to_path_buf(), reason })
}

/// Writes an array, of format version 1.
///
/// # Errors
/// [`NpyError::Io`].
pub fn write(path: &Path, columns: usize, values: &[f32]) -> Result<(), NpyError> {
    let mut bytes = header(values.len() / columns.max(1), columns);
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    std::fs::write(path, bytes).map_err(|source| NpyError::Io { path: path.to_path_buf(), source })
}

/// Header of a NumPy file, version 1.0, for little-endian f32 `[rows, columns]` row by row.
pub fn header(rows: usize, columns: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // The data starts at a multiple of 64 bytes; the text ends with a line feed.
    let total = (BEFORE_TEXT + text.len() + 1).next_multiple_of(64);
    text.push_str(&" ".repeat(total - BEFORE_TEXT - text.len() - 1));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    let length = u16::try_from(text.len()).expect("two numbers and 60 letters are shorter than 65,536");
    header.extend(length.to_le_bytes());
    header.extend(text.as_bytes());
    header
}

fn parse(bytes: &[u8]) -> Result<Array, String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("it does not begin like a NumPy file")?;
    let (text, data) = match rest {
        [1, _, a, b, rest @ ..] => rest.split_at_checked(usize::from(u16::from_le_bytes([*a, *b]))),
        [2 | 3, _, a, b, c, d, rest @ ..] => {
            rest.split_at_checked(u32::from_le_bytes([*a, *b, *c, *d]) as usize)
        }
        _ => return Err("its version is unknown".into()),
    }
    .ok_or("its header is cut off")?;
    let text = std::str::from_utf8(text).map_err(|_| "its header is not text")?;
    let entry = |key: &str| {
        let (_, after) = text.split_once(&format!("'{key}':")).ok_or(format!("its header lacks {key}"))?;
        Ok::<&str, String>(after.trim_start())
    };
    if !entry("descr")?.starts_with("'<f4'") {
        return Err("its values are not little-endian f32".into());
    }
    if !entry("fortran_order")?.starts_with("False") {
        return Err("it is stored column by column".into());
    }
    let shape = entry("shape")?;
    let shape =
        shape.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or("its shape is unclear")?.0;
    let numbers: Vec<usize> = shape
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| format!("its shape is ({shape})")))
        .collect::<Result<_, _>>()?;
    let [rows, columns] = numbers[..] else { return Err(format!("its shape is ({shape})")) };
    if rows.checked_mul(columns).and_then(|values| values.checked_mul(4)) != Some(data.len()) {
        return Err(format!("it has {} bytes for a shape of ({shape})", data.len()));
    }
    let values = data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(Array { columns, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.npy");
        let values: Vec<f32> = (0..6).map(|number| number as f32 / 4.0).collect();
        write(&path, 3, &values).expect("writes");
        assert_eq!(read(&path).expect("reads"), Array { columns: 3, values });
        let bytes = std::fs::read(&path).expect("reads");
        for (damaged, reason) in [
            (bytes[..bytes.len() - 1].to_vec(), "23 bytes"),
            (bytes[..60].to_vec(), "cut off"),
            (b"PK".to_vec(), "begin"),
            (String::from_utf8_lossy(&bytes).replace("<f4", "<f8").into_bytes(), "begin"),
        ] {
            let error = parse(&damaged).expect_err("refused");
            assert!(error.contains(reason), "{error}");
        }
        let replaced = |from: &str, to: &str| {
            let text: Vec<u8> = bytes.clone();
            let at =
                text.windows(from.len()).position(|window| window == from.as_bytes()).expect("it is there");
            let mut text = text;
            text[at..at + from.len()].copy_from_slice(to.as_bytes());
            parse(&text).expect_err("refused")
        };
        assert!(replaced("<f4", "<f8").contains("f32"));
        assert!(replaced("False", "True ").contains("column by column"));
        assert!(replaced("(2, 3)", "(2, 4)").contains("24 bytes"));
    }
}
