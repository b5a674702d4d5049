//! `GET /v1/stats`: how the server is doing, in figures for people; the status page shows them. Machines scrape `/metrics`.

use axum::{Json, extract::State};
use dfml_index::{IndexInfo, SearchMode};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, AppState, Backend, Problem};
use crate::metrics::{Latency, Stage};

/// Share of failed answers above which something is wrong.
const FAILED_SHARE_MAX: f64 = 0.01;
/// Fewer answers than this say nothing about a share.
const ANSWERS_MIN: u64 = 20;
/// Share of the queue that is in use when the server is about to refuse requests.
const QUEUE_SHARE_MAX: f64 = 0.8;

/// How the server is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    /// All in one word.
    status: Status,
    /// What is wrong, in sentences; empty if nothing is.
    problems: Vec<String>,
    /// Seconds since its start.
    uptime_seconds: f64,
    /// Requests that have been answered.
    requests: u64,
    /// Answers with a status of 500 and more.
    failed: u64,
    /// Requests that were refused for load.
    rejected: u64,
    /// Requests being answered.
    in_flight: u64,
    /// Pictures that wait for the model.
    queue_depth: usize,
    /// Pictures that may wait for the model.
    queue_capacity: usize,
    /// Time of searches since the start.
    search_ms: LatencyView,
    /// Time in each stage of a search.
    stages_ms: Vec<StageLatency>,
    /// The model and what it runs on; absent while it is loaded.
    model: Option<ModelStats>,
    /// The index; absent while it is loaded.
    index: Option<IndexStats>,
}

/// A server's state in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// All is well.
    Ok,
    /// It answers, and something is wrong.
    Degraded,
    /// It is loading its model and index.
    Loading,
    /// It is stopping.
    Stopping,
}

/// Percentiles in milliseconds; absent before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
struct LatencyView {
    /// How many.
    count: u64,
    /// Half of them took at most this long.
    p50: Option<f64>,
    /// 95 in 100 took at most this long.
    p95: Option<f64>,
    /// 99 in 100 took at most this long.
    p99: Option<f64>,
}

/// A stage's percentiles.
#[derive(Debug, Serialize, ToSchema)]
struct StageLatency {
    /// Its name.
    stage: &'static str,
    /// Its percentiles.
    #[serde(flatten)]
    latency: LatencyView,
}

/// The model and what it runs on.
#[derive(Debug, Serialize, ToSchema)]
struct ModelStats {
    /// Its name and the beginning of its fingerprint.
    name: String,
    /// The execution provider asked for.
    provider_requested: String,
    /// The one in use.
    provider_active: String,
    /// Why that one.
    provider_reason: String,
    /// Pictures per second in the timed run at load.
    images_per_second: f64,
    /// Whether results have a match probability, and how far off it is on average.
    expected_calibration_error: Option<f64>,
}

/// The index.
#[derive(Debug, Serialize, ToSchema)]
struct IndexStats {
    /// Items that can be found.
    items: usize,
    /// Products that they show; absent where counting them would take too long.
    products: Option<usize>,
    /// Deleted items that still take up memory.
    tombstones: usize,
    /// How searches are answered: `exact` or `graph`.
    mode: &'static str,
    /// Share of the true nearest that searches find; 1 where every item is compared, absent before it is measured.
    recall: Option<f64>,
    /// Memory for vectors, codes and graph, in bytes.
    memory_bytes: u64,
    /// Size of the store on disk, in bytes.
    disk_bytes: u64,
    /// Whether the next generation is being built.
    rebuilding: bool,
}

/// How the server is doing
///
/// Latency percentiles, recall, sizes, and in sentences what is wrong.
#[utoipa::path(
    get, path = "/v1/stats", tag = "server",
    responses((status = 200, description = "How it is doing.", body = Stats)),
)]
pub(super) async fn stats(State(state): State<AppState>) -> Json<Stats> {
    let (metrics, backend) = (state.metrics(), state.backend().ok());
    let totals = metrics.totals();
    let mut problems = Vec::new();
    let info = match &backend {
        Some(backend) => match index_info(&state, backend).await {
            Ok(info) => Some(info),
            Err(error) => {
                problems.push(Problem::from(&error).detail().to_owned());
                None
            }
        },
        None => None,
    };
    if let Some(backend) = &backend {
        backend_problems(backend, &mut problems);
    }
    if let Some(info) = &info {
        index_problems(info, &mut problems);
    }
    if totals.answered >= ANSWERS_MIN && totals.failed as f64 > FAILED_SHARE_MAX * totals.answered as f64 {
        problems
            .push(format!("{} of {} requests failed; the log names each", totals.failed, totals.answered));
    }
    let status = match (&backend, state.draining(), problems.is_empty()) {
        (_, true, _) => Status::Stopping,
        (None, false, _) => Status::Loading,
        (Some(_), false, true) => Status::Ok,
        (Some(_), false, false) => Status::Degraded,
    };
    Json(Stats {
        status,
        problems,
        uptime_seconds: state.uptime().as_secs_f64(),
        requests: totals.answered,
        failed: totals.failed,
        rejected: totals.rejected,
        in_flight: totals.in_flight,
        queue_depth: backend.as_ref().map_or(0, |backend| backend.batcher.queue_depth()),
        queue_capacity: backend.as_ref().map_or(0, |backend| backend.batcher.options().queue_capacity),
        search_ms: view(metrics.route_latency("/v1/search")),
        stages_ms: Stage::ALL
            .map(|stage| StageLatency { stage: stage.as_str(), latency: view(metrics.stage_latency(stage)) })
            .into(),
        model: backend.as_deref().map(model_stats),
        index: info.map(index_stats),
    })
}

/// Figures about the index, asked for on a thread that may wait.
pub(super) async fn index_info(state: &AppState, backend: &Backend) -> Result<IndexInfo, ApiError> {
    Ok(state.ask(backend, |index| index.info()).await??)
}

fn backend_problems(backend: &Backend, problems: &mut Vec<String>) {
    let provider = &backend.provider;
    if provider.requested != "auto" && provider.requested != provider.active {
        problems.push(format!(
            "{} was asked for and {} computes: {}",
            provider.requested, provider.active, provider.reason
        ));
    }
    let (waiting, capacity) = (backend.batcher.queue_depth(), backend.batcher.options().queue_capacity);
    if waiting as f64 > QUEUE_SHARE_MAX * capacity as f64 {
        problems.push(format!(
            "{waiting} of {capacity} places before the model are taken: requests are about to be refused"
        ));
    }
}

fn index_problems(info: &IndexInfo, problems: &mut Vec<String>) {
    if info.items == 0 {
        problems.push("the catalogue is empty: index it, or put items into it".to_owned());
    }
    if let Some(recall) = info.recall.filter(|recall| recall.recall < recall.floor) {
        problems.push(format!(
            "searches find {:.1} % of the true nearest, and {:.1} % are wanted",
            100.0 * recall.recall,
            100.0 * recall.floor
        ));
    }
}

fn model_stats(backend: &Backend) -> ModelStats {
    let provider = &backend.provider;
    ModelStats {
        name: backend.label(),
        provider_requested: provider.requested.clone(),
        provider_active: provider.active.clone(),
        provider_reason: provider.reason.clone(),
        images_per_second: provider.probe_images_per_second,
        expected_calibration_error: backend
            .manifest
            .calibration
            .as_ref()
            .map(|known| known.expected_calibration_error),
    }
}

fn index_stats(info: IndexInfo) -> IndexStats {
    IndexStats {
        items: info.items,
        products: info.products,
        tombstones: info.tombstones,
        mode: match info.mode {
            SearchMode::Exact => "exact",
            SearchMode::Graph => "graph",
        },
        recall: recall(&info),
        memory_bytes: info.memory_bytes,
        disk_bytes: info.disk_bytes,
        rebuilding: info.rebuilding,
    }
}

/// Measured where a graph is walked; where every item is compared there is nothing to miss.
pub(super) fn recall(info: &IndexInfo) -> Option<f64> {
    match info.mode {
        SearchMode::Exact => Some(1.0),
        SearchMode::Graph => info.recall.map(|estimate| estimate.recall),
    }
}

fn view(latency: Latency) -> LatencyView {
    let milliseconds = |seconds: f64| (seconds * 1e5).round() / 1e2;
    let at = |share: f64| latency.quantile(share).map(milliseconds);
    LatencyView { count: latency.count(), p50: at(0.50), p95: at(0.95), p99: at(0.99) }
}
