//! Every backbone through the one constructor: forms of weights, streams, efforts, checkpoints, export.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod golden_support;
mod network_support;

use dfml_models::{Architecture, TensorMap, factorize, fold};
use dfml_train::TrainError;
use dfml_train::nn::{Effort, Form, Network, NetworkOptions, build};
use golden_support::assert_close;
use network_support::{backbones, published, real_images, small_vit, weights};
use tch::{Device, Kind, Tensor};

fn network(architecture: &Architecture, weights: &TensorMap, form: Form) -> Box<dyn Network> {
    let options = NetworkOptions { form, gap_weight: 1e-3, ..NetworkOptions::default() };
    build(architecture, weights, &options, Device::Cpu).unwrap()
}

#[test]
fn the_cut_network_is_the_dense_one() {
    let images = real_images();
    for (name, architecture) in backbones().into_iter().chain([published("resnet50", 4)]) {
        let weights = weights(&architecture);
        let dense = network(&architecture.clone().with_sub_blocks(1), &weights, Form::Fast);
        let expected = tch::no_grad(|| dense.embed(&images));
        for form in [Form::Fast, Form::Masked] {
            let cut = network(&architecture, &weights, form);
            let full = tch::no_grad(|| cut.forward_train(&images)).full.embedding;
            assert_close(&format!("{name} {form:?}"), &full, &expected, 1e-5);
            let embedded = tch::no_grad(|| cut.embed(&images));
            assert_close(&format!("{name} {form:?}, evaluation"), &embedded, &expected, 1e-5);
            let plain = tch::no_grad(|| cut.forward_plain(&images)).embedding;
            assert_close(&format!("{name} {form:?}, plain"), &plain, &expected, 1e-5);
        }
    }
}

/// In 64-bit numbers the two forms differ by their rounding alone, in 32-bit ones by no more than the sums of thousands of terms in
/// another order explain.
#[test]
fn both_forms_have_the_same_values_and_gradients() {
    for (name, architecture) in backbones() {
        compare_forms(&name, &architecture, Numbers { kind: Kind::Double, values: 1e-12, gradients: 1e-10 });
        compare_forms(&name, &architecture, Numbers { kind: Kind::Float, values: 1e-5, gradients: 1e-4 });
    }
}

/// What is computed with, and how far the forms may be apart, relative to the largest element.
struct Numbers {
    kind: Kind,
    values: f64,
    gradients: f64,
}

fn compare_forms(name: &str, architecture: &Architecture, numbers: Numbers) {
    let name = &format!("{name} in {:?}", numbers.kind);
    let images = real_images().to_kind(numbers.kind);
    let weights = weights(architecture);
    let [masked, fast] = [Form::Masked, Form::Fast].map(|form| {
        let network = network(architecture, &weights, form);
        for (_, param) in network.params().iter() {
            param.tensor.shallow_clone().set_data(&param.tensor.detach().to_kind(numbers.kind));
        }
        let out = network.forward_train(&images);
        let upstream = Tensor::linspace(-1.0, 2.0, out.full.raw.numel() as i64, (numbers.kind, Device::Cpu))
            .view_as(&out.full.raw);
        let loss = ((&out.full.embedding + &out.routed.embedding * 2.0) * upstream).sum(None);
        (loss + &out.gap).backward();
        (network, out)
    });
    let (a, b) = (&masked.1, &fast.1);
    assert_close(&format!("{name} routed"), &b.routed.embedding, &a.routed.embedding, numbers.values);
    assert_close(&format!("{name} gap"), &b.gap, &a.gap, numbers.values);
    assert_eq!(a.routes, b.routes, "{name}");
    let trained: Vec<&str> = fast.0.params().trainable().map(|(name, _)| name).collect();
    for tensor in trained {
        let [a, b] = [&masked.0, &fast.0].map(|network| network.params().get(tensor).unwrap().grad());
        assert!(a.defined() && b.defined(), "{name} {tensor} has no gradient");
        // A key's bias shifts all scores of a softmax alike: its gradient is 0 but for rounding.
        if a.abs().max().double_value(&[]) > 1e-6 {
            assert_close(&format!("{name} {tensor}"), &b, &a, numbers.gradients);
        }
    }
}

/// What an evaluation with fewer sub-blocks computes is what training computed in the routed stream, and what the dense
/// network computes if all other sub-blocks add nothing.
#[test]
fn fewer_sub_blocks_are_those_that_were_asked_for() {
    let images = real_images();
    for (name, architecture) in backbones() {
        let weights = weights(&architecture);
        let network = network(&architecture, &weights, Form::Fast);
        let routed = tch::no_grad(|| network.forward_train(&images)).routed.embedding;
        let embedded = tch::no_grad(|| network.embed_with(&images, Effort::Routed));
        assert_close(&format!("{name} routed"), &embedded, &routed, 1e-5);

        let k = architecture.sub_blocks();
        for kept in [0, k - 1] {
            let silent = only(&architecture, &factorize(&architecture, &weights).unwrap(), kept);
            let dense = fold(&architecture, &silent).unwrap();
            let dense = self::network(&architecture.clone().with_sub_blocks(1), &dense, Form::Fast);
            let expected = tch::no_grad(|| dense.embed(&images));
            let embedded = tch::no_grad(|| network.embed_with(&images, Effort::SubBlock(kept)));
            assert_close(&format!("{name} sub-block {kept}"), &embedded, &expected, 2e-5);
        }
    }
}

/// Factorised weights in which only sub-block `kept` adds anything: its own share of the last shift included.
fn only(architecture: &Architecture, factorized: &TensorMap, kept: usize) -> TensorMap {
    let k = architecture.sub_blocks() as f32;
    let mut out = factorized.clone();
    for (name, tensor) in &mut out {
        let number = |marker: &str| -> Option<usize> {
            name.split('.').find_map(|part| part.strip_prefix(marker)?.parse().ok())
        };
        let last_norm = match architecture {
            Architecture::EfficientnetLite(_) => "_bn2.",
            _ => "bn3.",
        };
        let is_last_layer = name.contains(".proj")
            || name.contains("fc2")
            || name.contains("_project_conv")
            || name.contains("conv3");
        let sub = number("proj").or(number("mlp")).or(number("sub"));
        let factor = match sub {
            Some(sub) if is_last_layer && sub != kept + 1 => 0.0,
            // The shift is shared: a sub-block's part of it is a K-th. Block 0 of EfficientNet-Lite is not cut.
            None if name.contains(last_norm)
                && (name.ends_with("bias") || name.ends_with("running_mean"))
                && !name.starts_with("_blocks.0.") =>
            {
                1.0 / k
            }
            _ => continue,
        };
        tensor.data.iter_mut().for_each(|value| *value *= factor);
    }
    out
}

#[test]
fn a_checkpoint_comes_back_with_routers_and_folds_to_the_dense_network() {
    let images = real_images();
    for (name, architecture) in backbones() {
        let first = network(&architecture, &weights(&architecture), Form::Fast);
        let checkpoint = first.checkpoint().unwrap();
        for gate in architecture.gate_tensors() {
            assert_eq!(checkpoint[&gate.name].shape, gate.shape, "{name}");
        }
        let options = NetworkOptions { seed: 99, ..NetworkOptions::default() };
        let second = build(&architecture, &checkpoint, &options, Device::Cpu).unwrap();
        assert!(second.checkpoint().unwrap() == checkpoint, "{name}");
        let routed = |network: &dyn Network| tch::no_grad(|| network.embed_with(&images, Effort::Routed));
        assert_eq!(routed(&*first), routed(&*second), "{name}");

        let dense = first.dense().unwrap();
        let served = build(&architecture.with_sub_blocks(1), &dense, &options, Device::Cpu).unwrap();
        let (a, b) = tch::no_grad(|| (served.embed(&images), first.embed(&images)));
        assert_close(&name, &a, &b, 1e-5);
    }
}

#[test]
fn a_frozen_prefix_has_no_router_and_no_gradient() {
    let images = real_images();
    for (name, architecture) in
        [small_vit("vit_tiny", 4), backbones().swap_remove(6), backbones().swap_remove(8)]
    {
        let options = NetworkOptions { frozen_blocks: 2, ..NetworkOptions::default() };
        let network = build(&architecture, &weights(&architecture), &options, Device::Cpu).unwrap();
        let out = network.forward_train(&images);
        out.routed.embedding.select(1, 0).sum(Kind::Float).backward();
        let prefixes =
            ["blocks.1.", "_blocks.1.", "layer2.0.", "patch_embed", "_conv_stem", "conv1", "pos_embed"];
        for (tensor, param) in network.params().iter() {
            if prefixes.iter().any(|prefix| tensor.starts_with(prefix)) {
                assert!(!param.tensor.requires_grad() && !tensor.contains("gate"), "{name} {tensor}");
            }
        }
        // A checkpoint of it is built without those routers, whatever the options.
        let again =
            build(&architecture, &network.checkpoint().unwrap(), &NetworkOptions::default(), Device::Cpu);
        assert_eq!(again.unwrap().forward_train(&images).routes.len(), out.routes.len(), "{name}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let error = |architecture: &Architecture, weights: &TensorMap| -> String {
        match build(architecture, weights, &NetworkOptions::default(), Device::Cpu) {
            Err(error @ TrainError::Factorize(_)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for (_, architecture) in [small_vit("vit_tiny", 2), backbones().swap_remove(8)] {
        let mut weights = weights(&architecture);
        let last = weights.keys().next_back().unwrap().clone();
        let tensor = weights.remove(&last).unwrap();
        weights.insert("stranger".to_owned(), tensor);
        let text = error(&architecture, &weights);
        assert!(text.contains(&last) && text.contains("stranger"), "{text}");
        let text = error(&architecture.with_sub_blocks(5), &weights);
        assert!(text.contains("sub_blocks (5) does not divide"), "{text}");
    }
}
