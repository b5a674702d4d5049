//! After the storage has failed: the store is opened again, and memory follows it.
//!
//! A full disk or an error of the device makes the storage engine refuse everything, reading too, until the file is opened anew. The
//! writing thread does that at once; searches go on as soon as it is done, though the disk may still be full. Writes wait a
//! while, as each that fails costs opening the file again, and are then tried: when there is room again they succeed.

use std::time::{Duration, Instant};

use super::Shared;
use crate::IndexError;

/// Opening reads the whole file. After it this many times as long passes before that is done again, or anything written.
const REST: u32 = 9;
/// But no less than this.
const REST_MIN: Duration = Duration::from_secs(2);

/// What the writing thread knows of failures.
#[derive(Default)]
pub(super) struct Recovery {
    rest: Option<Rest>,
}

/// After a failure.
struct Rest {
    until: Instant,
    reason: String,
}

impl Recovery {
    /// Opens the store again if its storage has failed and the last attempt is long enough ago.
    pub(super) fn attend(&mut self, shared: &Shared) {
        let Some(reason) = shared.store.failure() else { return };
        if self.resting().is_some() {
            return;
        }
        tracing::error!(%reason, "the storage has failed; opening the store again");
        let start = Instant::now();
        match shared.recover() {
            Ok(()) => tracing::info!(seconds = start.elapsed().as_secs_f64(), "the store is open again"),
            Err(error) => {
                tracing::error!(%error, "the store cannot be opened again yet");
                shared.store.still_failing(&error);
            }
        }
        let rest = (start.elapsed() * REST).max(REST_MIN);
        self.rest = Some(Rest { until: Instant::now() + rest, reason });
    }

    /// Why nothing is to be written now, after a failure that is not long ago.
    pub(super) fn resting(&self) -> Option<&str> {
        let rest = self.rest.as_ref().filter(|rest| Instant::now() < rest.until)?;
        Some(&rest.reason)
    }
}

impl Shared {
    fn recover(&self) -> Result<(), IndexError> {
        // Store and memory differ until the end of this.
        let _nobody_writes = self.writing.lock();
        self.store.reopen()?;
        self.catch_up()?;
        self.store.recovered();
        Ok(())
    }

    /// Has memory follow the store: the commit that failed may be on disk all the same, as a whole.
    fn catch_up(&self) -> Result<(), IndexError> {
        let missed = self.memory.read().missed(&self.store)?;
        self.memory.write().take_in(missed);
        let built = {
            let memory = self.memory.read();
            let fields = memory.column_fields();
            if fields.is_empty() {
                return Ok(());
            }
            memory.build_columns(&self.store, fields)?
        };
        self.memory.write().replace_columns(built);
        Ok(())
    }
}
