//! MATLAB files (.mat, level 5, compressed or not): structures, texts and numbers, as annotations of data sets use them.
//!
//! After MathWorks, "MAT-File Format", level 5. Whatever a file claims is checked against its length before memory is taken.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::ZlibDecoder;

use crate::error::TrainError;

const HEADER: usize = 128;
/// Structures within structures are followed this deep.
const DEPTH_MAX: usize = 8;
/// Largest size of a variable after decompression, in bytes.
const VARIABLE_MAX: u64 = 1 << 30;

// Types of data elements.
const COMPRESSED: u32 = 15;
const MATRIX: u32 = 14;

/// The value of a variable or field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// An array of structures, column after column; a single structure is an array of one.
    Structs(Vec<BTreeMap<String, Value>>),
    /// Characters, column after column (so a row of text as it is read).
    Text(String),
    /// Numbers of any type, column after column.
    Numbers(Vec<f64>),
    /// Something else: cells, sparse matrices, objects.
    Other,
}

/// Reads all variables of a file, by name.
///
/// # Errors
/// A file that cannot be read, is not of level 5, is damaged or written big-endian.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Value>, TrainError> {
    let bytes = fs_err::read(path)?;
    parse(&bytes).map_err(|reason| TrainError::Data {
        list: path.to_owned(),
        reason: format!("not a readable MATLAB level 5 file: {reason}"),
    })
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Value>, String> {
    let header = bytes.get(..HEADER).ok_or("it is shorter than a header")?;
    // A 7.3 file is HDF5 behind a header of the same form, version 2.
    if header[124..] != [0x00, 0x01, b'I', b'M'] {
        return Err("the header is not that of a little-endian level 5 file".into());
    }
    let mut variables = BTreeMap::new();
    let mut rest = Elements(&bytes[HEADER..]);
    while let Some(element) = rest.next()? {
        let (name, value) = match element.kind {
            MATRIX => matrix(element.data, 0)?,
            COMPRESSED => {
                let mut inflated = Vec::new();
                let read = ZlibDecoder::new(element.data).take(VARIABLE_MAX).read_to_end(&mut inflated);
                read.map_err(|e| format!("a compressed variable: {e}"))?;
                let inner = Elements(&inflated).next()?.filter(|inner| inner.kind == MATRIX);
                matrix(inner.ok_or("a compressed variable holds no array")?.data, 0)?
            }
            _ => continue,
        };
        variables.insert(name, value);
    }
    Ok(variables)
}

/// A typed piece of a file.
struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

/// The elements of a piece of a file, one after another.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    fn next(&mut self) -> Result<Option<Element<'a>>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag: [u8; 8] =
            self.0.get(..8).and_then(|tag| tag.try_into().ok()).ok_or("it ends inside a tag")?;
        let [a, b, c, d, e, f, g, h] = tag;
        let (first, second) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        // Up to four bytes of data may stand in the tag itself, their number in the upper half of the type.
        let (kind, start, length, padded): (u32, usize, usize, usize) = if first >> 16 != 0 {
            (first & 0xFFFF, 4, (first >> 16) as usize, 4)
        } else {
            let length = second as usize;
            let padded = if first == COMPRESSED { length } else { length.next_multiple_of(8) };
            (first, 8, length, padded)
        };
        let data = self.0.get(start..start.saturating_add(length)).filter(|_| start == 8 || length <= 4);
        let data = data.ok_or_else(|| format!("an element of {length} bytes reaches beyond its end"))?;
        // The last element of a file need not be padded.
        self.0 = self.0.get(start + padded..).unwrap_or_default();
        Ok(Some(Element { kind, data }))
    }

    fn need(&mut self, what: &str) -> Result<Element<'a>, String> {
        self.next()?.ok_or_else(|| format!("an array without {what}"))
    }
}

/// An array's name and value.
fn matrix(data: &[u8], depth: usize) -> Result<(String, Value), String> {
    let mut parts = Elements(data);
    if data.is_empty() {
        // How an empty field is written.
        return Ok((String::new(), Value::Numbers(Vec::new())));
    }
    let class = parts.need("flags")?.data.first().copied().unwrap_or_default();
    let dimensions = numbers(&parts.need("dimensions")?)?;
    let name = text(&parts.need("a name")?)?;
    let value = match class {
        2 if depth < DEPTH_MAX => structs(&mut parts, &dimensions, depth)?,
        4 => Value::Text(text(&parts.need("characters")?)?),
        6..=15 => Value::Numbers(numbers(&parts.need("numbers")?)?),
        _ => Value::Other,
    };
    Ok((name, value))
}

fn structs(parts: &mut Elements<'_>, dimensions: &[f64], depth: usize) -> Result<Value, String> {
    let width =
        numbers(&parts.need("a length of field names")?)?.first().copied().unwrap_or_default() as usize;
    let names = parts.need("field names")?.data;
    if width == 0 {
        return Err("field names of length 0".into());
    }
    let name = |chars: &[u8]| {
        let end = chars.iter().position(|&c| c == 0).unwrap_or(chars.len());
        String::from_utf8_lossy(&chars[..end]).into_owned()
    };
    let names: Vec<String> = names.chunks_exact(width).map(name).collect();
    let count = dimensions.iter().product::<f64>();
    // Each field of each structure takes at least a tag.
    if count < 0.0 || count * names.len() as f64 * 8.0 > parts.0.len() as f64 {
        return Err(format!("{count} structures do not fit into it"));
    }
    let mut all = Vec::with_capacity(count as usize);
    for _ in 0..count as usize {
        let mut fields = BTreeMap::new();
        for name in &names {
            let element = parts.need(name)?;
            if element.kind != MATRIX {
                return Err(format!("field {name} is no array"));
            }
            fields.insert(name.clone(), matrix(element.data, depth + 1)?.1);
        }
        all.push(fields);
    }
    Ok(Value::Structs(all))
}

fn text(element: &Element<'_>) -> Result<String, String> {
    let data = element.data;
    match element.kind {
        // UTF-16, or 16-bit code units.
        4 | 17 => {
            let units: Vec<u16> =
                data.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
            Ok(String::from_utf16_lossy(&units))
        }
        1 | 2 | 16 => Ok(String::from_utf8_lossy(data).into_owned()),
        kind => Err(format!("text of element type {kind}")),
    }
}

fn numbers(element: &Element<'_>) -> Result<Vec<f64>, String> {
    fn words<const N: usize>(data: &[u8], convert: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|word| convert(*word)).collect()
    }
    let data = element.data;
    Ok(match element.kind {
        1 => words(data, |b: [u8; 1]| f64::from(i8::from_le_bytes(b))),
        2 => words(data, |b: [u8; 1]| f64::from(b[0])),
        3 => words(data, |b| f64::from(i16::from_le_bytes(b))),
        4 => words(data, |b| f64::from(u16::from_le_bytes(b))),
        5 => words(data, |b| f64::from(i32::from_le_bytes(b))),
        6 => words(data, |b| f64::from(u32::from_le_bytes(b))),
        7 => words(data, |b| f64::from(f32::from_le_bytes(b))),
        9 => words(data, f64::from_le_bytes),
        12 => words(data, |b| i64::from_le_bytes(b) as f64),
        13 => words(data, |b| u64::from_le_bytes(b) as f64),
        kind => return Err(format!("numbers of element type {kind}")),
    })
}
