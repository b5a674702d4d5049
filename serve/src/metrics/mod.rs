//! Everything the server measures, under the prefix `dfml_`, in SI units.
//!
//! Labels have few values: routes are the patterns of the router, methods and statuses those of HTTP, reasons are
//! constants of the code. No value comes from a request's content.

mod latency;
mod maker;

use std::time::Duration;

use prometheus::{
    Encoder, Error, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder, core::Collector,
};

pub use latency::Latency;

use self::maker::Maker;
use crate::engine::{BatchObserver, ProviderReport};

/// The stages of a search, in the order a request passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Taking the request's body off the connection.
    Read,
    /// Image file to pixels, waiting for a thread included.
    Decode,
    /// Resizing, cropping, normalising.
    Preprocess,
    /// Waiting for the model.
    Queue,
    /// One run of the model, over a whole batch.
    Inference,
    /// Finding the nearest vectors.
    Search,
    /// Writing the answer.
    Respond,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Decode,
        Self::Preprocess,
        Self::Queue,
        Self::Inference,
        Self::Search,
        Self::Respond,
    ];

    /// The value of the label `stage`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Decode => "decode",
            Self::Preprocess => "preprocess",
            Self::Queue => "queue",
            Self::Inference => "inference",
            Self::Search => "search",
            Self::Respond => "respond",
        }
    }
}

/// The figures of the index that `/metrics` shows, read at the moment of the scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct IndexFigures {
    /// Live items.
    pub items: u64,
    /// Deleted or replaced items whose space is not reclaimed yet.
    pub tombstones: u64,
    /// Number of the index's current build.
    pub generation: u64,
    /// Memory for vectors, codes and graph, in bytes.
    pub memory_bytes: u64,
    /// Size of the store on disk, in bytes.
    pub disk_bytes: u64,
    /// Share of the true nearest that searches find, 0 to 1; `None` before it is measured.
    pub recall: Option<f64>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests answered.
    pub answered: u64,
    /// Of these, with a status of 500 and more.
    pub failed: u64,
    /// Of these, refused for load.
    pub rejected: u64,
    /// Requests being answered.
    pub in_flight: u64,
}

/// The server's metrics and the registry they live in.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    in_flight: IntGauge,
    stages: HistogramVec,
    batch_size: Histogram,
    queue_depth: IntGauge,
    rejected: IntCounterVec,
    abandoned: IntCounter,
    decode_failures: IntCounterVec,
    provider: IntGaugeVec,
    model: IntGaugeVec,
    index_items: IntGauge,
    index_tombstones: IntGauge,
    index_generation: IntGauge,
    index_memory: IntGauge,
    index_disk: IntGauge,
    index_up: IntGauge,
    recall: Gauge,
}

impl Metrics {
    /// Registers every metric in a registry of its own.
    ///
    /// # Errors
    /// Only if two metrics had the same name, which the tests exclude.
    pub fn new() -> Result<Self, Error> {
        let make = Maker::new();
        make.process()?;
        let build = make.gauges("build_info", "The running build; the value is always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let rejected =
            make.counters("rejected_total", "Requests refused without being worked on.", &["reason"])?;
        // A counter that appears with its first event hides that event from `rate`.
        for reason in ["overloaded", "rate_limited"] {
            rejected.with_label_values(&[reason]);
        }
        Ok(Self {
            requests: make.counters(
                "http_requests_total",
                "HTTP requests answered.",
                &["route", "method", "status"],
            )?,
            request_duration: make.histograms(
                "http_request_duration_seconds",
                "Time from a request's head to its answer.",
                "route",
            )?,
            in_flight: make.gauge("http_requests_in_flight", "Requests being answered.")?,
            stages: make.histograms("stage_duration_seconds", "Time in each stage of a search.", "stage")?,
            batch_size: make.sizes("batch_size", "Images per run of the model.")?,
            queue_depth: make.gauge("queue_depth", "Images that wait for the model.")?,
            rejected,
            abandoned: make
                .counter("abandoned_total", "Images not computed because their client had gone away.")?,
            decode_failures: make.counters(
                "image_decode_failures_total",
                "Images that could not be decoded.",
                &["reason"],
            )?,
            provider: make.gauges(
                "execution_provider_info",
                "The execution provider asked for and the one in use; the value is always 1.",
                &["requested", "active"],
            )?,
            model: make.gauges(
                "model_info",
                "The model that is served; the value is always 1.",
                &["name", "fingerprint"],
            )?,
            index_items: make.gauge("index_items", "Live items in the index.")?,
            index_tombstones: make
                .gauge("index_tombstones", "Deleted items whose space is not reclaimed yet.")?,
            index_generation: make.gauge("index_generation", "Number of the index's current build.")?,
            index_memory: make.gauge("index_memory_bytes", "Memory for vectors, codes and search graph.")?,
            index_disk: make.gauge("index_disk_bytes", "Size of the store on disk.")?,
            index_up: make.gauge("index_up", "1 while the index answers, 0 while its engine does not.")?,
            recall: make.ratio(
                "recall_probe_ratio",
                "Share of the true nearest that searches find, measured on a sample; NaN before the first.",
            )?,
            registry: make.into_registry(),
        })
    }

    /// Counts one answered request. `route` is the router's pattern, never the request's own path.
    pub fn answered(&self, route: &str, method: &str, status: u16, duration: Duration) {
        self.requests.with_label_values(&[route, method, status.to_string().as_str()]).inc();
        self.request_duration.with_label_values(&[route]).observe(duration.as_secs_f64());
    }

    /// Counts a request as in flight until the guard is dropped, however the request ends.
    pub fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    /// Records the time one request or batch spent in a stage.
    pub fn stage(&self, stage: Stage, duration: Duration) {
        self.stages.with_label_values(&[stage.as_str()]).observe(duration.as_secs_f64());
    }

    /// Counts a refused request; `reason` is one of the problem codes.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// Counts an image that could not be decoded; `reason` is one of the problem codes.
    pub fn decode_failed(&self, reason: &'static str) {
        self.decode_failures.with_label_values(&[reason]).inc();
    }

    /// Names the model and the provider that are in use from now on.
    pub fn set_model(&self, name: &str, fingerprint: &str, provider: &ProviderReport) {
        self.model.reset();
        self.model.with_label_values(&[name, fingerprint]).set(1);
        self.provider.reset();
        self.provider.with_label_values(&[provider.requested.as_str(), provider.active.as_str()]).set(1);
    }

    /// Sets the figures that are read at the moment of a scrape.
    pub fn set_levels(&self, queue_depth: usize, index: IndexFigures) {
        self.queue_depth.set(signed(queue_depth as u64));
        self.index_items.set(signed(index.items));
        self.index_tombstones.set(signed(index.tombstones));
        self.index_generation.set(signed(index.generation));
        self.index_memory.set(signed(index.memory_bytes));
        self.index_disk.set(signed(index.disk_bytes));
        self.index_up.set(1);
        self.recall.set(index.recall.unwrap_or(f64::NAN));
    }

    /// Notes that the index does not answer. Its figures stay as they were.
    pub fn set_index_down(&self) {
        self.index_up.set(0);
    }

    /// Counts since the start.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { in_flight: unsigned(self.in_flight.get()), ..Totals::default() };
        for family in self.requests.collect() {
            for metric in family.get_metric() {
                let count = metric.get_counter().get_value() as u64;
                totals.answered += count;
                let status = metric.get_label().iter().find(|label| label.name() == "status");
                if status.is_some_and(|status| status.value().starts_with('5')) {
                    totals.failed += count;
                }
            }
        }
        for family in self.rejected.collect() {
            totals.rejected +=
                family.get_metric().iter().map(|metric| metric.get_counter().get_value() as u64).sum::<u64>();
        }
        totals
    }

    /// How long the requests of a route have taken.
    pub fn route_latency(&self, route: &str) -> Latency {
        Latency::of(&self.request_duration.with_label_values(&[route]))
    }

    /// How long a stage has taken.
    pub fn stage_latency(&self, stage: Stage) -> Latency {
        Latency::of(&self.stages.with_label_values(&[stage.as_str()]))
    }

    /// All metrics in Prometheus' text format, version 0.0.4.
    ///
    /// # Errors
    /// Only if a metric has no value or name, which the tests exclude.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::with_capacity(16 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl BatchObserver for Metrics {
    fn dequeued(&self, waited: Duration) {
        self.stage(Stage::Queue, waited);
    }

    fn computed(&self, size: usize, compute: Duration) {
        self.batch_size.observe(size as f64);
        self.stage(Stage::Inference, compute);
    }

    fn abandoned(&self) {
        self.abandoned.inc();
    }
}

/// Keeps a request counted as in flight while it lives.
pub struct InFlight<'a>(&'a IntGauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unsigned(level: i64) -> u64 {
    u64::try_from(level).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_and_shows_its_value() {
        let metrics = Metrics::new().expect("names are unique");
        metrics.answered("/v1/search", "POST", 200, Duration::from_millis(7));
        metrics.stage(Stage::Decode, Duration::from_millis(3));
        metrics.rejected("overloaded");
        metrics.computed(3, Duration::from_millis(20));
        metrics.set_levels(
            4,
            IndexFigures { items: 11, tombstones: 2, recall: Some(0.99), ..IndexFigures::default() },
        );
        let text = String::from_utf8(metrics.encode().expect("encodes")).expect("UTF-8");
        for line in [
            "dfml_http_requests_total{method=\"POST\",route=\"/v1/search\",status=\"200\"} 1",
            "dfml_stage_duration_seconds_count{stage=\"decode\"} 1",
            "dfml_stage_duration_seconds_count{stage=\"inference\"} 1",
            "dfml_batch_size_sum 3",
            "dfml_queue_depth 4",
            "dfml_index_items 11",
            "dfml_index_tombstones 2",
            "dfml_recall_probe_ratio 0.99",
            "dfml_rejected_total{reason=\"overloaded\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn a_request_counts_as_in_flight_until_its_guard_goes() {
        let metrics = Metrics::new().expect("names are unique");
        let guard = metrics.in_flight();
        assert_eq!(metrics.in_flight.get(), 1);
        drop(guard);
        assert_eq!(metrics.in_flight.get(), 0);
    }
}
