//! Training on a GPU computes what training on the CPU computes. Needs libtorch for CUDA and a GPU:
//! `cargo nextest run -p dfml-train --test cuda --run-ignored only`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod golden_support;
mod network_support;

use dfml_train::loss::ProxyAnchor;
use dfml_train::nn::{Form, Network, NetworkOptions, TrainOutput, build};
use golden_support::assert_close;
use network_support::{backbones, real_images, weights};
use tch::{Device, Kind, Tensor};

/// In 64-bit numbers, so that nothing but a mistake is left to differ.
#[test]
#[ignore = "needs a CUDA device"]
fn a_gpu_gives_the_values_and_gradients_of_the_cpu() {
    assert!(tch::Cuda::is_available(), "this libtorch sees no CUDA device");
    for (name, architecture) in backbones() {
        let weights = weights(&architecture);
        for form in [Form::Fast, Form::Masked] {
            let options = NetworkOptions { form, gap_weight: 1e-3, ..NetworkOptions::default() };
            let [cpu, gpu] = [Device::Cpu, Device::Cuda(0)].map(|device| {
                let network = build(&architecture, &weights, &options, device).unwrap();
                let output = step(network.as_ref(), device);
                (network, output)
            });
            let name = format!("{name} {form:?}");
            let near = |what: &str, gpu: &Tensor, cpu: &Tensor, tolerance: f64| {
                assert_close(&format!("{name}: {what}"), &gpu.to_device(Device::Cpu), cpu, tolerance);
            };
            near("full", &gpu.1.full.embedding, &cpu.1.full.embedding, 1e-11);
            near("routed", &gpu.1.routed.embedding, &cpu.1.routed.embedding, 1e-11);
            near("gap", &gpu.1.gap, &cpu.1.gap, 1e-11);
            for (tensor, param) in cpu.0.params().trainable() {
                let (cpu, gpu) = (param.tensor.grad(), gpu.0.params().get(tensor).unwrap().grad());
                // A key's bias shifts all scores of a softmax alike: its gradient is 0 but for rounding.
                if cpu.abs().max().double_value(&[]) > 1e-6 {
                    near(tensor, &gpu, &cpu, 1e-8);
                }
            }
        }
    }
}

/// Forward pass, Proxy-Anchor on both streams, backward pass.
fn step(network: &dyn Network, device: Device) -> TrainOutput {
    for (_, param) in network.params().iter() {
        param.tensor.shallow_clone().set_data(&param.tensor.detach().to_kind(Kind::Double));
    }
    let images = real_images().to_kind(Kind::Double).to_device(device);
    let output = network.forward_train(&images);
    let dim = output.full.embedding.size()[1];
    // The same on both devices.
    let proxies = Tensor::linspace(-1.0, 1.0, 3 * dim, (Kind::Double, Device::Cpu)).sin().view([3, dim]);
    let loss = ProxyAnchor::from_proxies(proxies.to_device(device), 0.1, 32.0);
    let labels = Tensor::from_slice(&[0i64, 1, 2, 0]).to_device(device);
    let of = |embedding: &Tensor| loss.forward(embedding, &labels);
    (of(&output.full.embedding) + of(&output.routed.embedding) * 0.5 + &output.gap).backward();
    output
}
