//! Writes that go wrong on purpose.
//!
//! The file `fault` in the server's folder names what befalls the next writes: `half` applies half of a write's points and
//! answers an error, `after` applies all and answers an error, `stall` applies all and answers after a minute; with a number
//! behind it that many writes are meant, and otherwise one.

use std::path::{Path, PathBuf};

use tonic::Status;

/// What befalls a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Half,
    After,
    Stall,
}

/// The file that names faults.
pub(crate) struct Faults(PathBuf);

impl Faults {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.join("fault"))
    }

    /// The fault of the next write, which is thereby used up.
    pub(crate) fn next(&self) -> Fault {
        let Ok(text) = std::fs::read_to_string(&self.0) else { return Fault::None };
        let mut words = text.split_whitespace();
        let fault = match words.next() {
            Some("half") => Fault::Half,
            Some("after") => Fault::After,
            Some("stall") => Fault::Stall,
            _ => return Fault::None,
        };
        let left = words.next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(1).saturating_sub(1);
        let name = text.split_whitespace().next().unwrap_or_default();
        // A fault that cannot be used up makes a test fail, which is what a broken folder deserves.
        let _ = match left {
            0 => std::fs::remove_file(&self.0),
            left => std::fs::write(&self.0, format!("{name} {left}")),
        };
        fault
    }
}

/// What a cluster answers where too few copies have a write.
pub(crate) fn half_applied() -> Status {
    Status::internal("Service internal error: too few replicas have applied the operation")
}
