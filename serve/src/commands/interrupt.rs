//! SIGINT and SIGTERM end long commands between two batches, so that what is done is kept.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::exit;

/// Set by the first signal; the second one ends the process at once.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts listening. Call once per process.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let flag = Arc::clone(&interrupt.0);
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(exit::INTERRUPTED));
            }
        })?;
        Ok(interrupt)
    }

    /// Whether a signal has come.
    pub(super) fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
