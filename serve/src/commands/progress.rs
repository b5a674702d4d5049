//! Progress of a long command: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Time between two lines where standard error is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Counts items and shows the rate and the time left, on standard error.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    total: usize,
    done: usize,
    start: Instant,
    last_line: Instant,
}

impl Progress {
    /// Begins counting to `total`; `what` names the work, e.g. "indexing".
    pub(super) fn new(what: &'static str, total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{prefix} [{wide_bar}] {pos}/{len} images, {per_sec}, {eta} left",
            )
            .expect("the template is a literal that a test parses")
            .with_key("per_sec", |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                // A formatter that cannot be written to has nowhere to report it.
                let _ = write!(out, "{:.0} images/s", state.per_sec());
            })
            .progress_chars("=> ");
            ProgressBar::new(total as u64).with_style(style).with_prefix(what)
        });
        let now = Instant::now();
        Self { bar, what, total, done: 0, start: now, last_line: now }
    }

    /// One more item is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                let left = self
                    .start
                    .elapsed()
                    .mul_f64((self.total - self.done.min(self.total)) as f64 / self.done as f64);
                eprintln!(
                    "{}: {}/{} images, {:.0} images/s, {} left",
                    self.what,
                    self.done,
                    self.total,
                    self.rate(),
                    HumanDuration(left)
                );
            }
            None => {}
        }
    }

    /// Prints a line without tearing the bar.
    pub(super) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Items per second since the start.
    pub(super) fn rate(&self) -> f64 {
        self.done as f64 / self.start.elapsed().as_secs_f64().max(1e-9)
    }

    /// Ends the display and returns the time taken.
    pub(super) fn finish(self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_without_a_terminal() {
        let mut progress = Progress::new("indexing", 3);
        progress.step();
        progress.step();
        assert_eq!(progress.done, 2);
        assert!(progress.rate() > 0.0);
    }

    #[test]
    fn the_template_parses() {
        assert!(
            ProgressStyle::with_template("{prefix} [{wide_bar}] {pos}/{len} images, {per_sec}, {eta} left")
                .is_ok()
        );
    }
}
