//! TensorBoard's event files: scalars as protobuf messages in TFRecord frames.
//!
//! Field numbers after tensorflow/core/util/event.proto and framework/summary.proto.

use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.START`: events of older files at this step or later no longer count.
const START: i32 = 1;

/// An event file that is being written.
#[derive(Debug)]
pub struct EventFile {
    file: fs_err::File,
}

impl EventFile {
    /// Starts a file in `folder`, which is made if needed.
    ///
    /// # Errors
    /// A file that cannot be written, by name.
    pub fn create(folder: &Path) -> std::io::Result<Self> {
        fs_err::create_dir_all(folder)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // TensorBoard looks for `tfevents` in the name and reads files in the order of their names.
        let name = format!("events.out.tfevents.{:010}.{:09}.dfml", now.as_secs(), now.subsec_nanos());
        let mut file = Self { file: fs_err::File::create(folder.join(name))? };
        file.write(Event { file_version: Some("brain.Event:2".to_owned()), ..Event::default() })?;
        Ok(file)
    }

    /// Says that the run goes on after `step`: what older files hold of later steps is void.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn restart(&mut self, step: usize) -> std::io::Result<()> {
        self.write(Event {
            step: step as i64 + 1,
            session_log: Some(SessionLog { status: START }),
            ..Event::default()
        })
    }

    /// Writes scalars of a step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalars(&mut self, step: usize, values: &[(&str, f64)]) -> std::io::Result<()> {
        let value =
            values.iter().map(|(tag, value)| Value { tag: (*tag).to_owned(), simple_value: *value as f32 });
        self.write(Event {
            step: step as i64,
            summary: Some(Summary { value: value.collect() }),
            ..Event::default()
        })
    }

    fn write(&mut self, mut event: Event) -> std::io::Result<()> {
        event.wall_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        // One write per record, so that a killed run leaves whole records.
        self.file.write_all(&frame(&event.encode_to_vec()))
    }
}

/// A TFRecord: length, its checksum, data, its checksum.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_those_that_tensorboard_reads() {
        // A record that tensorboard 2.21 itself wrote: `EventFileWriter`'s version record, wall time 1.5.
        let event =
            Event { wall_time: 1.5, file_version: Some("brain.Event:2".to_owned()), ..Event::default() };
        assert_eq!(hex::encode(frame(&event.encode_to_vec())), EXPECTED);
    }

    const EXPECTED: &str = "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";

    #[test]
    fn files_hold_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path()).unwrap();
        file.scalars(7, &[("loss/total", 0.5), ("loss/full", 0.25)]).unwrap();
        file.restart(3).unwrap();
        let path = fs_err::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let bytes = fs_err::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            events.push(Event::decode(&rest[12..12 + length]).unwrap());
            assert_eq!(rest[..16 + length], frame(&rest[12..12 + length]), "checksums");
            rest = &rest[16 + length..];
        }
        let summary = events[1].summary.as_ref().unwrap();
        assert_eq!((events[1].step, summary.value[1].tag.as_str()), (7, "loss/full"));
        assert_eq!(summary.value[0].simple_value, 0.5);
        assert_eq!((events[2].step, events[2].session_log.as_ref().unwrap().status), (4, START));
        assert_eq!(events.len(), 3);
    }
}
