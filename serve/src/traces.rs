//! Traces of requests for an OpenTelemetry collector (OTLP over gRPC). Off unless a collector is named.
//!
//! A request is a span of its own, or a child of its client's where the header `traceparent` names one (W3C Trace Context); what it
//! waits for are spans below it. Names and attributes are OpenTelemetry's semantic conventions for HTTP servers. Spans are
//! sent in the background, in batches; those that cannot be sent are dropped and never hold up an answer.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use opentelemetry::{
    propagation::TextMapPropagator as _,
    trace::{Status, TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter, registry::LookupSpan};

use crate::metrics::Stage;

/// The target of spans that are for traces alone. A log leaves them out, so that what is logged within a stage still shows the request.
pub const STAGES: &str = "request_stage";
/// How long the last spans may take to be sent when the program ends.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// `[traces]`: where traces of requests go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// OTLP/gRPC address of a collector, e.g. `http://127.0.0.1:4317`; absent sends none.
    pub endpoint: Option<String>,
    /// What this server is called in traces.
    pub service_name: String,
    /// Share of requests that are traced, 0..=1. A request that belongs to a trace already follows its client's decision.
    pub sample_ratio: f64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { endpoint: None, service_name: "dfml".into(), sample_ratio: 1.0 }
    }
}

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The settings are wrong.
    #[error("settings: traces.{0}")]
    Setting(String),
    /// The endpoint cannot be used.
    #[error("traces to {endpoint}: {source}")]
    Endpoint {
        /// As the settings name it.
        endpoint: String,
        /// Why.
        source: ExporterBuildError,
    },
    /// There is no thread for it.
    #[error("a thread for traces: {0}")]
    Thread(std::io::Error),
}

/// Sends spans. Dropping it sends what is left.
pub struct Traces {
    provider: SdkTracerProvider,
    // Carries the connection, also while the program ends.
    _runtime: Runtime,
}

impl Traces {
    /// Starts to send, if the settings name a collector. It need not be there yet.
    ///
    /// # Errors
    /// [`TraceError`] if the settings make no sense.
    pub fn start(settings: &TraceSettings) -> Result<Option<Self>, TraceError> {
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        if !(0.0..=1.0).contains(&settings.sample_ratio) {
            let reason = format!("sample_ratio is {}; it is a share, 0 to 1", settings.sample_ratio);
            return Err(TraceError::Setting(reason));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .map_err(TraceError::Thread)?;
        let exporter = {
            let _in_runtime = runtime.enter();
            SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()
        };
        let exporter =
            exporter.map_err(|source| TraceError::Endpoint { endpoint: endpoint.clone(), source })?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
        let resource = Resource::builder()
            .with_service_name(settings.service_name.clone())
            .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource.build())
            .build();
        Ok(Some(Self { provider, _runtime: runtime }))
    }

    /// Takes up the spans of requests and their stages.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        let ours = filter::Targets::new()
            .with_target("dfml_serve::http", tracing::Level::INFO)
            .with_target(STAGES, tracing::Level::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("dfml"))
            .with_location(false)
            .with_threads(false)
            .with_filter(ours)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Makes the span of a request part of its client's trace, and describes it. Its fields `otel.kind`, `otel.name` and `trace_id` are
/// filled, the last also for the log.
pub(crate) fn began(span: &Span, headers: &HeaderMap, method: &'static str, route: &str) {
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // An error says that nobody takes up spans.
    if span.set_parent(parent).is_err() {
        return;
    }
    span.set_attribute("http.request.method", method);
    span.set_attribute("http.route", route.to_owned());
    span.record("otel.kind", "server");
    span.record("otel.name", format!("{method} {route}"));
    let context = span.context();
    let context = context.span().span_context().clone();
    if context.is_valid() && context.is_sampled() {
        span.record("trace_id", tracing::field::display(context.trace_id()));
    }
}

/// Notes how a request ended.
pub(crate) fn ended(span: &Span, status: StatusCode) {
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_status(Status::error(""));
    }
}

/// The span of a stage of the current request.
pub(crate) fn stage(stage: Stage) -> Span {
    tracing::info_span!(target: STAGES, "stage", otel.name = stage.as_str())
}
