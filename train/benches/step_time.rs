//! A training step of ours against the official computation of the same network: `cargo bench -p dfml-train`.
//!
//! The official form runs every sub-block with autograd, masks, and runs a transformer's MLPs a second time for their
//! gap. Both run in this process, step by step in turn, on the same weights and images. What is timed is forward pass,
//! loss and backward pass: the optimiser is the same for both. Processor time counts beside the clock's, so that the ratio
//! holds on a machine that does other work too. Peak memory is that of a process of its own for each
//! form. `cargo bench -p dfml-train -- deit_small` runs one backbone; DFML_BENCH_BATCH sets the batch (16),
//! `DFML_BENCH_DEVICE=cuda` takes the first GPU (whose memory is not measured).

use std::cell::RefCell;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use criterion::{Criterion, SamplingMode};
use dfml_models::{Architecture, preset};
use dfml_train::loss::ProxyAnchor;
use dfml_train::nn::{Form, Network, NetworkOptions, build, fresh_weights};
use tch::{Device, Kind, Tensor};

/// Networks and their numbers of sub-blocks.
const BACKBONES: [(&str, usize); 6] = [
    ("deit_tiny_distilled_patch16_224", 3),
    ("deit_small_distilled_patch16_224", 3),
    ("vit_base_patch16_224", 3),
    ("efficientnet_lite0", 3),
    ("efficientnet_lite2", 3),
    ("resnet50", 4),
];
const CLASSES: i64 = 100;
/// Set in the child processes that measure memory: `network form`.
const CHILD: &str = "DFML_BENCH_CHILD";

fn main() {
    if let Ok(task) = std::env::var(CHILD) {
        return peak_memory(&task);
    }
    let mut criterion = Criterion::default().configure_from_args();
    for (name, k) in BACKBONES {
        compare(&mut criterion, name, k);
    }
    criterion.final_summary();
}

fn batch_size() -> i64 {
    std::env::var("DFML_BENCH_BATCH").ok().and_then(|text| text.parse().ok()).unwrap_or(16)
}

fn device() -> Device {
    match std::env::var("DFML_BENCH_DEVICE").as_deref() {
        Ok("cuda") => Device::Cuda(0),
        _ => Device::Cpu,
    }
}

/// A network in one form, and what it is trained on.
struct Step {
    network: Box<dyn Network>,
    loss: ProxyAnchor,
    pixels: Tensor,
    labels: Tensor,
}

impl Step {
    fn new(name: &str, k: usize, form: Form) -> Step {
        let published = preset(name).expect("a published network");
        let side = i64::from(published.image_size);
        let architecture: Architecture = published.architecture.with_sub_blocks(k);
        let options = NetworkOptions { form, ..NetworkOptions::default() };
        let weights = fresh_weights(&architecture, 1);
        let network = build(&architecture, &weights, &options, device()).expect("its own weights fit");
        tch::manual_seed(7);
        let batch = batch_size();
        let pixels = Tensor::randn([batch, 3, side, side], (Kind::Float, device()));
        let labels = Tensor::arange(batch, (Kind::Int64, device())).remainder(CLASSES);
        let loss = ProxyAnchor::new(CLASSES, architecture.embedding_dim() as i64, 0.1, 32.0, device());
        Step { network, loss, pixels, labels }
    }

    /// Forward pass, the official loss, backward pass.
    fn run(&self) -> Spent {
        let (started, worked) = (Instant::now(), ProcessTime::now());
        for (_, param) in self.network.params().trainable() {
            param.tensor.shallow_clone().zero_grad();
        }
        let out = self.network.forward_train(&self.pixels);
        let (full, routed) = (&out.full.embedding, &out.routed.embedding);
        let apart = (routed - full.detach()).square().sum_dim_intlist(-1i64, false, Kind::Float);
        let distill = (apart + 1e-12).sqrt().sum(Kind::Float) * 0.1 + out.gap;
        let total = self.loss.forward(full, &self.labels)
            + self.loss.forward(routed, &self.labels) * 0.5
            + distill * 0.5;
        total.backward();
        if let Device::Cuda(index) = device() {
            tch::Cuda::synchronize(index as i64);
        }
        assert!(total.double_value(&[]).is_finite(), "the loss is not a number");
        Spent { clock: started.elapsed(), cpu: worked.elapsed() }
    }
}

/// What a step took.
#[derive(Clone, Copy)]
struct Spent {
    clock: Duration,
    /// Of all threads.
    cpu: Duration,
}

/// What each step took, the official form's first.
type Pairs = Vec<[Spent; 2]>;

fn compare(criterion: &mut Criterion, name: &str, k: usize) {
    let pairs = RefCell::new(Pairs::new());
    let mut group = criterion.benchmark_group("step_time");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_millis(1));
    group.measurement_time(Duration::from_secs(1));
    group.bench_function(name, |bencher| {
        let [ours, official] = [Form::Fast, Form::Masked].map(|form| Step::new(name, k, form));
        // The first step of each allocates.
        ours.run();
        official.run();
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let pair = [official.run(), ours.run()];
                total += pair[1].clock;
                pairs.borrow_mut().push(pair);
            }
            total
        });
    });
    group.finish();
    let pairs = pairs.into_inner();
    if pairs.is_empty() {
        return;
    }
    let seconds = |form: usize| median(&pairs, |pair| pair[form].clock.as_secs_f64());
    let clock = |pair: &[Spent; 2]| pair[0].clock.div_duration_f64(pair[1].clock);
    let cpu = |pair: &[Spent; 2]| pair[0].cpu.div_duration_f64(pair[1].cpu);
    println!(
        "{name}, K = {k}, batch {}: official {:.3} s, ours {:.3} s, ratio {:.2} ({:.2} to {:.2}), of processor time {:.2} ({:.2} to {:.2}), \
         {} pairs",
        batch_size(),
        seconds(0),
        seconds(1),
        median(&pairs, clock),
        percentile(&pairs, clock, 0.1),
        percentile(&pairs, clock, 0.9),
        median(&pairs, cpu),
        percentile(&pairs, cpu, 0.1),
        percentile(&pairs, cpu, 0.9),
        pairs.len()
    );
    if device() == Device::Cpu {
        let [ours, official] = [Form::Fast, Form::Masked].map(|form| child_memory(name, k, form));
        println!("{name}: peak memory official {official} MiB, ours {ours} MiB");
    }
}

fn median(pairs: &Pairs, of: impl Fn(&[Spent; 2]) -> f64) -> f64 {
    percentile(pairs, of, 0.5)
}

/// The value below which `share` of the pairs' values lie.
fn percentile(pairs: &Pairs, of: impl Fn(&[Spent; 2]) -> f64, share: f64) -> f64 {
    let mut values: Vec<f64> = pairs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// Peak resident memory of a process that makes three steps in `form`, in MiB.
fn child_memory(name: &str, k: usize, form: Form) -> u64 {
    let program = std::env::current_exe().expect("this program's own path");
    let output = std::process::Command::new(program)
        .env(CHILD, format!("{name} {k} {form:?}"))
        .output()
        .expect("this program starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{name} {form:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn peak_memory(task: &str) {
    let parts: Vec<&str> = task.split(' ').collect();
    let [name, k, form] = parts[..] else { panic!("{task}: not a network, a number and a form") };
    let form = if form == "Fast" { Form::Fast } else { Form::Masked };
    let step = Step::new(name, k.parse().expect("a number of sub-blocks"), form);
    for _ in 0..3 {
        step.run();
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    println!("{}", kib / 1024);
}
