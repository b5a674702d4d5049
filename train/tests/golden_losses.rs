//! The losses against the official code's numbers, and what they do at the edges.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod golden_support;

use dfml_train::loss::{
    Contrastive, EmbeddingLoss, LossKind, Margin, MarginConfig, MultiSimilarity, NPair, NtXent, ProxyAnchor,
    ProxyAnchorConfig, ProxyNca, ProxyNcaConfig, SoftmaxConfig, Triplet, TripletConfig,
};
use golden_support::{Golden, networks};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

const VALUES: f64 = 1e-5;

fn check(name: &str, loss: impl Fn(&Golden) -> Box<dyn EmbeddingLoss>) {
    for golden in networks() {
        let (embeddings, labels) = (golden.get("losses.embeddings"), golden.get("losses.labels"));
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let value = loss(&golden).loss(embeddings, labels, &mut rng);
        golden.check(&format!("losses.{name}"), &value, VALUES);
    }
}

#[test]
fn proxy_anchor() {
    check("proxy_anchor", |golden| {
        let ProxyAnchorConfig { margin, alpha } = ProxyAnchorConfig::default();
        Box::new(ProxyAnchor::from_proxies(golden.get("losses.proxy_anchor.proxies").copy(), margin, alpha))
    });
}

#[test]
fn proxy_nca() {
    check("proxy_nca", |golden| {
        let proxies = golden.get("losses.proxy_nca.proxies").copy();
        Box::new(ProxyNca::from_proxies(ProxyNcaConfig::default(), proxies))
    });
}

#[test]
fn multi_similarity() {
    check("multi_similarity", |_| Box::new(MultiSimilarity::default()));
}

#[test]
fn contrastive() {
    check("contrastive", |_| Box::new(Contrastive::default()));
}

#[test]
fn n_pair() {
    check("n_pair", |_| Box::new(NPair));
}

#[test]
fn nt_xent() {
    check("nt_xent", |_| Box::new(NtXent::default()));
}

/// Every loss with its default settings.
fn every() -> Vec<LossKind> {
    vec![
        LossKind::default(),
        LossKind::ProxyNca(ProxyNcaConfig::default()),
        LossKind::MultiSimilarity(Default::default()),
        LossKind::Contrastive(Default::default()),
        LossKind::Triplet(TripletConfig::default()),
        LossKind::NPair(Default::default()),
        LossKind::NtXent(Default::default()),
        LossKind::Margin(MarginConfig::default()),
        LossKind::Softmax(SoftmaxConfig::default()),
    ]
}

#[test]
fn a_step_along_the_gradient_lowers_every_loss() {
    for kind in every() {
        tch::manual_seed(1);
        let loss = kind.build(4, 8, Device::Cpu);
        let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 0, 1, 2, 3, 0, 1]);
        let embeddings = Tensor::randn([10, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let value = |x: &Tensor| loss.loss(x, &labels, &mut ChaCha8Rng::seed_from_u64(2));
        let before = value(&embeddings);
        before.backward();
        // Triplets are sampled by distance: a step small enough leaves the sample as it is.
        let direction = embeddings.grad() / embeddings.grad().norm();
        let after = tch::no_grad(|| value(&(&embeddings - direction * 1e-2)));
        assert!(after.double_value(&[]) < before.double_value(&[]), "{kind:?}: {before:?} then {after:?}");
        for (name, parameter) in loss.parameters() {
            assert!(parameter.grad().defined(), "{kind:?}: no gradient for {name}");
        }
    }
}

#[test]
fn batches_that_hold_nothing_to_compare_stay_finite() {
    for kind in every() {
        let loss = kind.build(4, 8, Device::Cpu);
        for labels in [[2i64, 2, 2, 2], [0, 1, 2, 3]] {
            let embeddings = Tensor::randn([4, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let value =
                loss.loss(&embeddings, &Tensor::from_slice(&labels), &mut ChaCha8Rng::seed_from_u64(2));
            assert!(value.double_value(&[]).is_finite(), "{kind:?} {labels:?}: {value:?}");
            value.backward();
            assert!(embeddings.grad().isfinite().all().int64_value(&[]) != 0, "{kind:?} {labels:?}");
        }
    }
}

#[test]
fn the_same_seed_samples_the_same_triplets() {
    let x = Tensor::randn([12, 8], (Kind::Float, Device::Cpu));
    let labels = Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
    let margin = Margin::new(MarginConfig::default(), 3, Device::Cpu);
    let losses: [&dyn EmbeddingLoss; 2] = [&Triplet::default(), &margin];
    for loss in losses {
        let draw = |seed| loss.loss(&x, &labels, &mut ChaCha8Rng::seed_from_u64(seed)).double_value(&[]);
        assert_eq!(draw(3).to_bits(), draw(3).to_bits());
        assert!((0..20).any(|seed| draw(seed) != draw(3)));
    }
}
