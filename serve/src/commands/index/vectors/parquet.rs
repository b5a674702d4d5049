//! Items and vectors out of Parquet files, such as `dfml embed --format parquet` writes.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::{Context as _, anyhow, bail};
use dfml_index::Item;
use parquet::{
    file::reader::SerializedFileReader,
    record::{Field, Row, reader::RowIter},
};
use serde_json::{Map, Value};

use super::{Entries, Entry, Vector};

/// What a Parquet file begins with.
const MAGIC: &[u8; 4] = b"PAR1";

pub(super) fn is_parquet(path: &Path) -> anyhow::Result<bool> {
    let mut start = Vec::new();
    fs_err::File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

/// Items with their vectors.
pub(super) fn entries(path: &Path) -> anyhow::Result<Entries> {
    let mut list = Vec::new();
    for_each_row(path, |row, place| {
        let Cells { id, product_id, vector, metadata } = cells(row, place)?;
        let id = id.with_context(|| format!("{place}, column id: it is missing (path would do, too)"))?;
        let product_id = product_id.unwrap_or_else(|| id.clone());
        let (vector, missing) = match vector {
            Ok(vector) => (vector, None),
            Err(reason) => (Vec::new(), Some(format!("{id}: {reason}"))),
        };
        list.push(Entry { item: Item { id, product_id, vector, metadata }, missing, place: place.into() });
        Ok(())
    })?;
    Ok(Entries { header: None, list })
}

/// Only the vectors, in the order of the file.
pub(super) fn vectors(path: &Path) -> anyhow::Result<Vec<Vector>> {
    let mut list = Vec::new();
    for_each_row(path, |row, place| {
        list.push(cells(row, place)?.vector);
        Ok(())
    })?;
    Ok(list)
}

fn for_each_row(path: &Path, mut each: impl FnMut(Row, &str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let name = || path.display().to_string();
    let reader = SerializedFileReader::new(File::open(path).with_context(name)?).with_context(name)?;
    for (number, row) in RowIter::from_file_into(Box::new(reader)).enumerate() {
        let place = format!("{}: row {number}", path.display());
        each(row.with_context(|| place.clone())?, &place)?;
    }
    Ok(())
}

/// A row, sorted out.
struct Cells {
    id: Option<String>,
    product_id: Option<String>,
    vector: Vector,
    metadata: Map<String, Value>,
}

fn cells(row: Row, place: &str) -> anyhow::Result<Cells> {
    let (mut id, mut path, mut product_id, mut vector, mut error) = (None, None, None, None, None);
    let (mut metadata, mut others) = (Map::new(), Map::new());
    for (column, field) in row.into_columns() {
        let at = || format!("{place}, column {column}");
        match column.as_str() {
            "id" => id = text(field).with_context(at)?,
            "path" => path = text(field).with_context(at)?,
            "product_id" => product_id = text(field).with_context(at)?,
            "embedding" | "vector" => vector = numbers(field).with_context(at)?,
            "error" => error = text(field).with_context(at)?,
            "metadata" => {
                if let Some(json) = text(field).with_context(at)? {
                    metadata = serde_json::from_str(&json).with_context(at)?;
                }
            }
            _ => {
                if let Some(value) = value(field).with_context(at)? {
                    others.insert(column, value);
                }
            }
        }
    }
    // What the row says in a column of its own goes before what its JSON says.
    metadata.append(&mut others);
    let vector = match (vector, error) {
        (Some(vector), _) => Ok(vector),
        (None, Some(error)) => Err(error),
        (None, None) => bail!("{place}, column embedding: it is missing, and no column error says why"),
    };
    Ok(Cells { id: id.or(path), product_id, vector, metadata })
}

fn text(field: Field) -> anyhow::Result<Option<String>> {
    match field {
        Field::Str(text) => Ok(Some(text)),
        Field::Null => Ok(None),
        Field::Bytes(bytes) => Ok(Some(String::from_utf8(bytes.data().to_vec()).context("not UTF-8")?)),
        other => Err(anyhow!("text is expected, not {other}")),
    }
}

fn numbers(field: Field) -> anyhow::Result<Option<Vec<f32>>> {
    let list = match field {
        Field::ListInternal(list) => list,
        Field::Null => return Ok(None),
        other => bail!("a list of numbers is expected, not {other}"),
    };
    let number = |(at, field): (usize, &Field)| match field {
        Field::Float(value) => Ok(*value),
        Field::Double(value) => Ok(*value as f32),
        other => Err(anyhow!("value {at} is {other}, not a float")),
    };
    list.elements().iter().enumerate().map(number).collect::<anyhow::Result<_>>().map(Some)
}

/// A value for the metadata; `None` where the row has none.
fn value(field: Field) -> anyhow::Result<Option<Value>> {
    Ok(Some(match field {
        Field::Null => return Ok(None),
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(value) => value.into(),
        other => bail!("a text, number or truth value is expected, not {other}"),
    }))
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::Arc};

    use parquet::{
        data_type::{ByteArray, ByteArrayType, DoubleType, FloatType},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };
    use serde_json::json;

    use super::*;

    const SCHEMA: &str = "
        message catalogue {
            required binary id (UTF8);
            optional binary product_id (UTF8);
            optional group vector (LIST) { repeated group list { required float element; } }
            required double price;
        }";

    /// Two rows; the second has no vector.
    fn file(folder: &Path) -> PathBuf {
        let path = folder.join("items.parquet");
        let schema = Arc::new(parse_message_type(SCHEMA).expect("a schema"));
        let properties = Arc::new(WriterProperties::default());
        let out = File::create(&path).expect("creates");
        let mut writer = SerializedFileWriter::new(out, schema, properties).expect("opens");
        let mut group = writer.next_row_group().expect("a group");
        let texts = |texts: &[&str]| -> Vec<ByteArray> { texts.iter().map(|&text| text.into()).collect() };
        let mut column = group.next_column().expect("a column").expect("is there");
        column.typed::<ByteArrayType>().write_batch(&texts(&["a", "b"]), None, None).expect("writes");
        column.close().expect("closes");
        let mut column = group.next_column().expect("a column").expect("is there");
        column.typed::<ByteArrayType>().write_batch(&texts(&["p"]), Some(&[1, 0]), None).expect("writes");
        column.close().expect("closes");
        let mut column = group.next_column().expect("a column").expect("is there");
        let floats = column.typed::<FloatType>();
        floats.write_batch(&[0.6, 0.8], Some(&[2, 2, 0]), Some(&[0, 1, 0])).expect("writes");
        column.close().expect("closes");
        let mut column = group.next_column().expect("a column").expect("is there");
        column.typed::<DoubleType>().write_batch(&[9.5, 3.0], None, None).expect("writes");
        column.close().expect("closes");
        group.close().expect("closes");
        writer.close().expect("ends");
        path
    }

    #[test]
    fn rows_are_sorted_out_by_column() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = file(folder.path());
        assert!(is_parquet(&path).expect("reads"));
        let mut rows = Vec::new();
        let stopped = for_each_row(&path, |row, place| {
            rows.push(cells(row, place)?);
            Ok(())
        });
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].id.as_deref(), rows[0].product_id.as_deref()), (Some("a"), Some("p")));
        assert_eq!(rows[0].vector, Ok(vec![0.6, 0.8]));
        assert_eq!(Value::Object(rows[0].metadata.clone()), json!({"price": 9.5}));
        let text = format!("{:#}", stopped.expect_err("the second row has no vector"));
        assert!(text.contains("items.parquet: row 1, column embedding"), "{text}");
    }

    #[test]
    fn a_wrong_column_is_named() {
        let at = |field: Field, what: &str| format!("{:#}", numbers(field).expect_err(what));
        assert!(at(Field::Str("x".into()), "no list").contains("a list of numbers is expected"));
        assert!(text(Field::Int(3)).is_err() && text(Field::Null).expect("no text").is_none());
        assert!(value(Field::Date(3)).is_err());
    }
}
