//! Parquet: path, embedding (a list of f32), error; one row group per block of files.

use std::{io::Write, path::PathBuf, sync::Arc};

use parquet::{
    data_type::{ByteArray, ByteArrayType, FloatType},
    errors::Result,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

use super::Embedded;

/// Either the embedding or the error is there.
const SCHEMA: &str = "
    message embeddings {
        required binary path (UTF8);
        optional group embedding (LIST) { repeated group list { required float element; } }
        optional binary error (UTF8);
    }";

/// Writes rows as they come.
pub(super) struct Writer<W: Write + Send>(SerializedFileWriter<W>);

impl<W: Write + Send> Writer<W> {
    pub(super) fn new(out: W) -> Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        // Neither vectors nor paths repeat.
        let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
        Ok(Self(SerializedFileWriter::new(out, schema, Arc::new(properties))?))
    }

    pub(super) fn write(&mut self, files: &[PathBuf], results: &[Embedded]) -> Result<()> {
        let mut group = self.0.next_row_group()?;
        let paths: Vec<ByteArray> =
            files.iter().map(|path| path.to_string_lossy().as_bytes().to_vec().into()).collect();
        if let Some(mut column) = group.next_column()? {
            column.typed::<ByteArrayType>().write_batch(&paths, None, None)?;
            column.close()?;
        }
        // A value's definition level counts the optional and repeated parts that are there, its repetition level is 0 where a
        // row begins.
        let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(vector) => {
                    values.extend_from_slice(vector);
                    defined.extend(std::iter::repeat_n(2i16, vector.len()));
                    repeated.extend((0..vector.len()).map(|index| i16::from(index > 0)));
                }
                Err(_) => {
                    defined.push(0);
                    repeated.push(0);
                }
            }
        }
        if let Some(mut column) = group.next_column()? {
            column.typed::<FloatType>().write_batch(&values, Some(&defined), Some(&repeated))?;
            column.close()?;
        }
        let errors: Vec<ByteArray> = results
            .iter()
            .filter_map(|result| Some(result.as_ref().err()?.as_bytes().to_vec().into()))
            .collect();
        let defined: Vec<i16> = results.iter().map(|result| i16::from(result.is_err())).collect();
        if let Some(mut column) = group.next_column()? {
            column.typed::<ByteArrayType>().write_batch(&errors, Some(&defined), None)?;
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<W> {
        self.0.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::{ListAccessor, RowAccessor},
    };

    use super::*;

    #[test]
    fn rows_come_back_in_order_with_vector_or_error() {
        let file = tempfile::tempfile().expect("file");
        let mut writer = Writer::new(file).expect("opens");
        let files = ["a.jpg", "b.jpg", "c.jpg"].map(PathBuf::from);
        let results = [Ok(vec![0.5, -0.5]), Err("it is cut off".to_owned()), Ok(vec![1.0, 0.0])];
        writer.write(&files, &results).expect("writes");
        writer.write(&files[..1], &results[..1]).expect("writes");
        let reader = SerializedFileReader::new(writer.finish().expect("ends")).expect("a Parquet file");
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let mut rows = Vec::new();
        for row in reader.get_row_iter(None).expect("rows") {
            let row = row.expect("a row");
            let vector = row.get_list(1).ok().map(|list| {
                (0..list.len()).map(|index| list.get_float(index).expect("a number")).collect::<Vec<f32>>()
            });
            rows.push((row.get_string(0).expect("a path").clone(), vector, row.get_string(2).ok().cloned()));
        }
        let expected = |path: &str, result: &Embedded| {
            (path.to_owned(), result.as_ref().ok().cloned(), result.as_ref().err().cloned())
        };
        let mut all: Vec<_> =
            ["a.jpg", "b.jpg", "c.jpg"].iter().zip(&results).map(|(p, r)| expected(p, r)).collect();
        all.push(expected("a.jpg", &results[0]));
        assert_eq!(rows, all);
    }
}
