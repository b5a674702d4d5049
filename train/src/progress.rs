//! Progress of long work: a bar on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A counted piece of work with rate and time left.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    label: String,
    total: u64,
    done: Cell<u64>,
    started: Instant,
    printed: Cell<Instant>,
}

impl Progress {
    /// Starts `total` units of work called `label`.
    pub fn new(label: &str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            // The template is a constant with known keys; a default style serves as well should it ever not parse.
            let style =
                ProgressStyle::with_template("{msg:28} {bar:30} {pos}/{len} {per_sec} {eta} left {prefix}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style).with_message(label.to_owned())
        });
        let now = Instant::now();
        Self {
            bar,
            label: label.to_owned(),
            total,
            done: Cell::new(0),
            started: now,
            printed: Cell::new(now),
        }
    }

    /// Adds `n` finished units.
    pub fn add(&self, n: u64) {
        self.add_with(n, "");
    }

    /// Adds `n` finished units and shows `note` behind them.
    pub fn add_with(&self, n: u64, note: &str) {
        self.done.set(self.done.get() + n);
        match &self.bar {
            Some(bar) => {
                bar.inc(n);
                bar.set_prefix(note.to_owned());
            }
            None if self.printed.get().elapsed() >= LINE_EVERY => {
                self.printed.set(Instant::now());
                self.line(note);
            }
            None => {}
        }
    }

    /// Ends the work with one last line.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.line("done");
    }

    fn line(&self, note: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = self.done.get() as f64 / seconds.max(1e-9);
        eprintln!("{}: {}/{} ({rate:.1}/s, {seconds:.0} s) {note}", self.label, self.done.get(), self.total);
    }
}
