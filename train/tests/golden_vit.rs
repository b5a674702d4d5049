//! The factorised ViT and DeiT, their losses, gradients and an optimiser step against the official code's numbers.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod golden_support;

use dfml_train::config::OptimizerConfig;
use dfml_train::loss::ProxyAnchor;
use dfml_train::nn::params::Param;
use dfml_train::nn::vit::{Streams, VitNetwork};
use dfml_train::nn::{Form, Network, NetworkOptions, l2_normalize};
use dfml_train::trainer::{Optimizer, ParamGroup};
use golden_support::{Golden, assert_close, networks, total};
use tch::{Device, Kind, Tensor};

const VALUES: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;
const LEARNING_RATE: f64 = 1e-4;
const GAP_WEIGHT: f64 = 1e-5 / 12.0;

fn network(golden: &Golden, prefixes: &[&str], form: Form) -> VitNetwork {
    let options = NetworkOptions { gap_weight: GAP_WEIGHT, form, ..NetworkOptions::default() };
    VitNetwork::new(golden.architecture(), &golden.weights(prefixes), options, Device::Cpu).unwrap()
}

fn each_network_and_form(check: impl Fn(&Golden, VitNetwork)) {
    for golden in networks() {
        for form in [Form::Masked, Form::Fast] {
            println!("{} {form:?}", golden.name);
            check(&golden, network(&golden, &["factorized.", "gate."], form));
        }
    }
}

/// The official objective's terms: Proxy-Anchor on the full and the routed embedding, distillation.
struct Objective {
    full: Tensor,
    routed: Tensor,
    distill: Tensor,
    total: Tensor,
    proxy_anchor: ProxyAnchor,
}

fn objective(golden: &Golden, network: &VitNetwork) -> Objective {
    let proxies = golden.get("loss.proxies").copy();
    let proxy_anchor = ProxyAnchor::from_proxies(proxies, 0.1, 32.0);
    let labels = golden.get("input.y");
    let out = network.forward_train(golden.get("input.x"));
    let (m1, m2) = (&out.full.embedding, &out.routed.embedding);
    let full = proxy_anchor.forward(m1, labels);
    let routed = proxy_anchor.forward(m2, labels);
    let apart = (m2 - m1.detach()).square().sum_dim_intlist(1i64, false, Kind::Float).sqrt();
    let distill = apart.sum(Kind::Float) * 0.1 + out.gap;
    let total = &full + &routed * 0.5 + &distill * 0.5;
    Objective { full, routed, distill, total, proxy_anchor }
}

#[test]
fn evaluation_embeds_with_all_sub_blocks() {
    each_network_and_form(|golden, network| {
        let embedding = tch::no_grad(|| network.embed(golden.get("input.x")));
        golden.check("eval.embedding", &embedding, VALUES);
    });
}

#[test]
fn a_dense_file_gives_the_same_network_as_its_conversion() {
    for golden in networks() {
        let converted = network(&golden, &["factorized.", "gate."], Form::Fast).params().to_host();
        let dense = network(&golden, &["dense.", "gate."], Form::Fast).params().to_host();
        assert!(converted == dense, "{}", golden.name);
        assert!(converted.keys().eq(golden.weights(&["grad."]).keys().filter(|name| *name != "proxies")));
    }
}

#[test]
fn both_streams_routes_and_gaps_are_the_official_ones() {
    each_network_and_form(|golden, network| {
        let Streams { full, routed, gaps, routes } = network.forward_streams(golden.get("input.x"));
        golden.check("train.m1", &full.embedding, VALUES);
        golden.check("train.m2", &routed.embedding, VALUES);
        let of = |half: usize| Tensor::stack(&routes.iter().skip(half).step_by(2).collect::<Vec<_>>(), 0);
        assert_eq!(of(0), *golden.get("train.route_attn"), "{}", golden.name);
        assert_eq!(of(1), *golden.get("train.route_mlp"), "{}", golden.name);
        let (attention, mlp): (Vec<_>, Vec<_>) = gaps.into_iter().map(|gap| (gap.attention, gap.mlp)).unzip();
        golden.check("train.gap_attn", &Tensor::stack(&attention, 0), VALUES);
        golden.check("train.gap_mlp", &Tensor::stack(&mlp, 0), VALUES);
    });
}

#[test]
fn loss_terms_are_the_official_ones() {
    each_network_and_form(|golden, network| {
        let terms = objective(golden, &network);
        golden.check("loss.proxy_anchor_full", &terms.full, VALUES);
        golden.check("loss.proxy_anchor_routed", &terms.routed, VALUES);
        golden.check("loss.distill", &terms.distill, VALUES);
        golden.check("loss.total", &terms.total, VALUES);
    });
}

#[test]
fn every_gradient_and_one_step_of_adamw_are_the_official_ones() {
    each_network_and_form(|golden, network| {
        let terms = objective(golden, &network);
        terms.total.backward();
        let proxies = &terms.proxy_anchor.proxies;
        golden.check("grad.proxies", &proxies.grad().clamp(-10.0, 10.0), GRADIENTS);
        for (name, param) in network.params().trainable() {
            let gradient = param.tensor.grad();
            assert!(gradient.defined(), "{} {name} has no gradient", golden.name);
            golden.check(&format!("grad.{name}"), &gradient.clamp(-10.0, 10.0), GRADIENTS);
        }

        step(&network, proxies);
        golden.check("step1.proxies", proxies, VALUES);
        for (name, param) in network.params().trainable() {
            check_step(golden, name, &param.tensor);
        }
    });
}

/// One step of the official optimiser on the gradients that the tensors hold.
fn step(network: &VitNetwork, proxies: &Tensor) {
    let named = |(name, param): (&str, &Param)| (name.to_owned(), param.tensor.shallow_clone());
    let groups = vec![
        ParamGroup { factor: 1.0, tensors: network.params().trainable().map(named).collect() },
        ParamGroup { factor: 100.0, tensors: vec![("proxies".to_owned(), proxies.shallow_clone())] },
    ];
    // The published recipe: AdamW, weight decay 1e-4, values clipped at 10.
    Optimizer::new(groups, &OptimizerConfig::default()).step(LEARNING_RATE, 1.0, |_| true);
}

/// The first step of Adam is the learning rate times the gradient's sign, so where the gradient is 0 but for rounding
/// (a key's bias shifts all scores of a softmax alike) the official numbers are the sign of their own rounding: there
/// only the step's length is checked.
fn check_step(golden: &Golden, name: &str, found: &Tensor) {
    let gradient = golden.get(&format!("grad.{name}")).abs();
    let sure = gradient.greater_tensor(&(gradient.max() * GRADIENTS)).to_kind(Kind::Float);
    let expected = golden.get(&format!("step1.{name}"));
    let found = found.detach();
    assert_close(&format!("{} step1.{name}", golden.name), &(&found * &sure), &(expected * &sure), VALUES);
    let longest = (found - expected).abs().max().double_value(&[]);
    assert!(longest <= 2.01 * LEARNING_RATE, "{} step1.{name}: {longest:e}", golden.name);
}

/// Gradients that only the gaps have are millionths of the others: they are looked at by themselves, on weights
/// that no official number was made for.
#[test]
fn the_forms_agree_on_gap_gradients_alone() {
    for golden in networks() {
        let [masked, fast] = [Form::Masked, Form::Fast].map(|form| {
            let network = network(&golden, &["factorized.", "gate."], form);
            let gaps = network.forward_streams(golden.get("input.x")).gaps;
            total(&gaps.iter().flat_map(|gap| [&gap.attention * 0.7, &gap.mlp * 1.3]).collect::<Vec<_>>())
                .backward();
            network
        });
        let mut compared = 0;
        for ((name, a), (_, b)) in masked.params().trainable().zip(fast.params().trainable()) {
            let (a, b) = (a.tensor.grad(), b.tensor.grad());
            if a.defined() && a.abs().max().double_value(&[]) > 0.0 {
                assert_close(&format!("{} {name}", golden.name), &b, &a, 1e-4);
                compared += 1;
            } else {
                assert!(!b.defined() || b.abs().max().double_value(&[]) == 0.0, "{} {name}", golden.name);
            }
        }
        assert!(compared > 10, "{}: {compared} tensors have a gradient", golden.name);
    }
}

#[test]
fn proxies_and_embeddings_may_have_any_length() {
    let golden = &networks()[0];
    let labels = golden.get("losses.labels");
    let loss = |scale: f64| {
        let proxies = golden.get("losses.proxy_anchor.proxies") * scale;
        ProxyAnchor::from_proxies(proxies, 0.1, 32.0)
            .forward(&(golden.get("losses.embeddings") * scale), labels)
    };
    assert_close("scaled by 3", &loss(3.0), &loss(1.0), 1e-5);
    let unit = l2_normalize(golden.get("losses.embeddings"));
    let norms = unit.square().sum_dim_intlist(1i64, false, Kind::Float);
    assert_close("norms", &norms, &norms.ones_like(), 1e-5);
}
