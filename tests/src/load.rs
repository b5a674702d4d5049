//! Load for a server on this machine: open loop (requests come at their times, whether or not the ones before are answered) and closed
//! loop (so many clients, each with one request at a time).
//!
//! An open loop counts a request's time from the moment it should have been sent, so that a server that stalls cannot hide the requests that
//! it kept from being sent.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::sync::mpsc;

/// Requests under way at most, in an open loop; more are not sent and counted.
const UNDER_WAY_MAX: usize = 4000;
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked, over and over: the bodies take turns.
#[derive(Clone)]
pub struct Question {
    /// Address.
    pub url: String,
    /// Content type of the bodies.
    pub content_type: String,
    /// The bodies.
    pub bodies: Arc<Vec<Vec<u8>>>,
}

/// One answer.
struct Sample {
    /// 0 if there was none.
    status: u16,
    seconds: f64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Requests per second that were to be sent; 0 in a closed loop.
    pub offered_per_second: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Answers by status; 0 are requests without an answer, 1 those that could not be sent because too many were under way.
    pub answers: BTreeMap<u16, usize>,
    /// Answers with status 200 per second.
    pub ok_per_second: f64,
    /// Times of the answers with status 200 in milliseconds: half of them, 95 %, 99 %, and all of them took at most so long.
    pub ok_ms: Percentiles,
    /// The same of the refused ones (429).
    pub refused_ms: Percentiles,
}

/// Percentiles in milliseconds; 0 if there is nothing.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Percentiles {
    /// Half.
    pub p50: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
    /// All.
    pub max: f64,
}

impl Percentiles {
    fn of(mut seconds: Vec<f64>) -> Self {
        if seconds.is_empty() {
            return Self::default();
        }
        seconds.sort_by(f64::total_cmp);
        // The nearest rank: the smallest value that so large a share does not exceed.
        let at = |share: f64| {
            let rank = (share * seconds.len() as f64).ceil().max(1.0) as usize;
            seconds[rank - 1] * 1e3
        };
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

fn client() -> reqwest::Client {
    let builder = crate::client::builder().timeout(PATIENCE).pool_max_idle_per_host(256).tcp_nodelay(true);
    builder.build().expect("a client")
}

async fn ask(client: &reqwest::Client, question: &Question, number: usize, due: Instant) -> Sample {
    let body = question.bodies[number % question.bodies.len()].clone();
    let request = client.post(&question.url).header("content-type", &question.content_type).body(body);
    let status = match request.send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            // An answer is complete when its body is.
            if answer.bytes().await.is_ok() { status } else { 0 }
        }
        Err(_) => 0,
    };
    Sample { status, seconds: due.elapsed().as_secs_f64() }
}

/// Sends `rate` requests per second for `duration`, and waits for their answers.
pub async fn open_loop(question: Question, rate: f64, duration: Duration) -> Report {
    let (client, start) = (client(), Instant::now());
    let (samples, collected) = mpsc::unbounded_channel();
    let under_way = Arc::new(AtomicUsize::new(0));
    let count = (rate * duration.as_secs_f64()) as usize;
    for number in 0..count {
        let due = start + Duration::from_secs_f64(number as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        if under_way.fetch_add(1, Ordering::Relaxed) >= UNDER_WAY_MAX {
            under_way.fetch_sub(1, Ordering::Relaxed);
            let _ = samples.send(Sample { status: 1, seconds: 0.0 });
            continue;
        }
        let (client, question, samples, under_way) =
            (client.clone(), question.clone(), samples.clone(), Arc::clone(&under_way));
        tokio::spawn(async move {
            // Fails only when nobody collects any more.
            let _ = samples.send(ask(&client, &question, number, due).await);
            under_way.fetch_sub(1, Ordering::Relaxed);
        });
    }
    drop(samples);
    // What is offered within the duration counts over the duration, or the last answer if that is later.
    report(rate, start, duration, collected).await
}

/// `clients` clients ask, each as soon as it has its answer, for `duration`.
pub async fn closed_loop(question: Question, clients: usize, duration: Duration) -> Report {
    let start = Instant::now();
    let (samples, collected) = mpsc::unbounded_channel();
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..clients {
        let (client, question, samples) = (client(), question.clone(), samples.clone());
        let (stop, next) = (Arc::clone(&stop), Arc::clone(&next));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let _ = samples.send(ask(&client, &question, number, Instant::now()).await);
            }
        });
    }
    drop(samples);
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    report(0.0, start, duration, collected).await
}

async fn report(
    rate: f64,
    start: Instant,
    duration: Duration,
    mut collected: mpsc::UnboundedReceiver<Sample>,
) -> Report {
    let (mut answers, mut ok, mut refused) = (BTreeMap::new(), Vec::new(), Vec::new());
    while let Some(Sample { status, seconds }) = collected.recv().await {
        *answers.entry(status).or_insert(0) += 1;
        match status {
            200 => ok.push(seconds),
            429 => refused.push(seconds),
            _ => {}
        }
    }
    let seconds = start.elapsed().as_secs_f64().max(duration.as_secs_f64());
    Report {
        offered_per_second: rate,
        seconds,
        ok_per_second: ok.len() as f64 / seconds,
        answers,
        ok_ms: Percentiles::of(ok),
        refused_ms: Percentiles::of(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let percentiles = Percentiles::of((1..=200).rev().map(f64::from).map(|ms| ms / 1e3).collect());
        let rounded = [percentiles.p50, percentiles.p95, percentiles.p99, percentiles.max].map(f64::round);
        assert_eq!(rounded, [100.0, 190.0, 198.0, 200.0]);
        assert_eq!(Percentiles::of(vec![0.003]).p99, 3.0);
    }
}
