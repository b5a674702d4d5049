//! Factorising and folding: against the official conversion, and against itself.

mod common;

use common::{golden_vits, with_prefix};
use dfml_models::{
    Architecture, EfficientNetLite, FactorizeError, Inventory, LiteVariant, ResNet, Tensor, TensorMap, Vit,
    WeightForm, arch, factorize, fold, to_dense, to_factorized,
};

/// Numbers that differ from each other everywhere, so that nothing can be swapped unnoticed.
fn numbered(architecture: &Architecture) -> TensorMap {
    let mut next = 0u32;
    let mut tensors = TensorMap::new();
    for spec in architecture.dense_tensors() {
        let data = (0..spec.shape.iter().product::<usize>()).map(|_| {
            next = next.wrapping_add(1);
            f32::from_bits(0x3F80_0000 ^ next) // consecutive patterns: bit for bit distinct
        });
        let tensor = Tensor::new(spec.shape.clone(), data.collect());
        tensors.insert(spec.name, tensor);
    }
    tensors
}

fn lite(variant: LiteVariant, sub_blocks: usize, embedding_dim: Option<usize>) -> Architecture {
    Architecture::EfficientnetLite(EfficientNetLite { variant, sub_blocks, embedding_dim })
}

fn assert_identical(found: &TensorMap, expected: &TensorMap) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, tensor) in expected {
        assert_eq!(found[name].shape, tensor.shape, "{name}");
        let same = found[name].data.iter().zip(&tensor.data).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{name} differs");
    }
}

#[test]
fn a_vit_factorises_exactly_as_the_official_conversion() {
    for (architecture, golden) in golden_vits() {
        let found = factorize(&architecture, &with_prefix(&golden, "dense.")).unwrap();
        assert_identical(&found, &with_prefix(&golden, "factorized."));
    }
}

#[test]
fn a_vit_folds_back_and_its_routers_are_dropped() {
    for (architecture, golden) in golden_vits() {
        let dense = with_prefix(&golden, "dense.");
        let mut factorized = with_prefix(&golden, "factorized.");
        factorized.extend(with_prefix(&golden, "gate."));
        let mut found = fold(&architecture, &factorized).unwrap();
        // The official conversion divides these by 3 in single precision, which loses the last bit of some.
        for (name, tensor) in &dense {
            if name.ends_with("attn.proj.bias") || name.ends_with("mlp.fc2.bias") {
                for (a, b) in found[name].data.iter().zip(&tensor.data) {
                    assert!(a.to_bits().abs_diff(b.to_bits()) <= 1, "{name}: {a} instead of {b}");
                }
                found.insert(name.clone(), tensor.clone());
            }
        }
        assert_identical(&found, &dense);
    }
}

#[test]
fn the_gates_have_the_official_names_and_shapes() {
    for (architecture, golden) in golden_vits() {
        let expected = with_prefix(&golden, "gate.");
        let found: Vec<_> =
            architecture.gate_tensors().into_iter().map(|gate| (gate.name, gate.shape)).collect();
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(sorted, expected.into_iter().map(|(name, t)| (name, t.shape)).collect::<Vec<_>>());
    }
}

#[test]
fn an_efficientnet_comes_back_bit_for_bit() {
    for (variant, k, dim) in [
        (LiteVariant::Lite0, 3, Some(384)),
        (LiteVariant::Lite0, 1, None),
        (LiteVariant::Lite0, 2, None),
        (LiteVariant::Lite4, 3, Some(8)),
    ] {
        let architecture = lite(variant, k, dim);
        let dense = numbered(&architecture);
        let factorized = factorize(&architecture, &dense).unwrap();
        assert_identical(&fold(&architecture, &factorized).unwrap(), &dense);
        let elements = |map: &TensorMap| map.values().map(Tensor::numel).sum::<usize>();
        assert_eq!(elements(&factorized), elements(&dense), "factorising adds and loses no number");
    }
}

#[test]
fn an_efficientnet_is_cut_where_its_channels_are_independent() {
    let architecture = lite(LiteVariant::Lite0, 3, None);
    let dense = numbered(&architecture);
    let factorized = factorize(&architecture, &dense).unwrap();
    // Block 1: 16 -> 96 -> 24 channels, so each third has 32.
    let (expand, project) =
        (&dense["_blocks.1._expand_conv.weight"], &dense["_blocks.1._project_conv.weight"]);
    let second = &factorized["_blocks.1.sub2._expand_conv.weight"];
    assert_eq!(second.shape, [32, 16, 1, 1]);
    assert_eq!(second.data[..], expand.data[32 * 16..64 * 16]);
    let third = &factorized["_blocks.1.sub3._project_conv.weight"];
    assert_eq!(third.shape, [24, 32, 1, 1]);
    assert_eq!(third.data[32 * 5 + 7], project.data[96 * 5 + 64 + 7]);
    assert_eq!(factorized["_blocks.1.sub1._depthwise_conv.weight"].shape, [32, 1, 3, 3]);
    assert_eq!(
        factorized["_blocks.1.sub3._bn1.running_var"].data[..],
        dense["_blocks.1._bn1.running_var"].data[64..]
    );
    assert!(factorized.contains_key("_blocks.1._bn2.weight"), "the last normalisation is shared");
    assert!(factorized.contains_key("_blocks.0._depthwise_conv.weight"), "the first block stays dense");
    let gates = architecture.gate_tensors();
    assert_eq!(gates.len(), 15);
    assert_eq!((gates[0].name.as_str(), &gates[0].shape[..]), ("_blocks.1.gate.weight", &[3, 16][..]));
}

#[test]
fn what_the_embedding_does_not_need_is_dropped_and_what_it_does_is_missed() {
    let architecture = lite(LiteVariant::Lite0, 3, None);
    let mut dense = numbered(&architecture);
    let clean = factorize(&architecture, &dense).unwrap();
    dense.insert("_fc.weight".to_owned(), Tensor::full(vec![1000, 1280], 0.0));
    dense.insert("_bn0.num_batches_tracked".to_owned(), Tensor::full(vec![], 1.0));
    assert_identical(&factorize(&architecture, &dense).unwrap(), &clean);

    let stem = dense.remove("_conv_stem.weight").unwrap();
    let wrong = mismatch(factorize(&architecture, &dense));
    assert_eq!(
        wrong.missing.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>(),
        ["_conv_stem.weight"]
    );
    dense.insert("_conv_stem.weight".to_owned(), Tensor::new(vec![3, 32, 3, 3], stem.data.clone()));
    dense.insert("_blocks.16._bn2.weight".to_owned(), Tensor::full(vec![320], 1.0));
    dense.insert("_blocks.16._bn2.bias".to_owned(), Tensor::full(vec![320], 1.0));
    dense.remove("_bn1.bias");
    let error = factorize(&architecture, &dense).unwrap_err();
    let text = error.to_string();
    for part in [
        "[3, 32, 3, 3]",
        "[32, 3, 3, 3]",
        "_blocks.16._bn2.weight",
        "_blocks.16._bn2.bias",
        "_bn1.bias [1280]",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let wrong = mismatch(Err(error));
    assert_eq!((wrong.missing.len(), wrong.misshapen.len(), wrong.unexpected.len()), (1, 1, 2));
    assert_eq!(wrong.dropped, ["_bn0.num_batches_tracked", "_fc.weight"]);
    let wrong = mismatch(fold(&lite(LiteVariant::Lite0, 3, Some(4)), &clean));
    assert_eq!(wrong.missing.len(), 2, "{wrong}");
}

fn mismatch(result: Result<TensorMap, FactorizeError>) -> Inventory {
    match result {
        Err(FactorizeError::Mismatch(inventory)) => *inventory,
        other => panic!("not a mismatch: {other:?}"),
    }
}

fn resnet(sub_blocks: usize, embedding_dim: Option<usize>) -> Architecture {
    Architecture::Resnet(ResNet { blocks: [1, 2, 1, 1], width: 8, sub_blocks, embedding_dim })
}

#[test]
fn a_resnet_comes_back_bit_for_bit_and_is_cut_between_its_last_two_convolutions() {
    for architecture in [resnet(2, None), resnet(4, Some(5)), resnet(1, None)] {
        let dense = numbered(&architecture);
        let factorized = factorize(&architecture, &dense).unwrap();
        assert_identical(&fold(&architecture, &factorized).unwrap(), &dense);
    }
    let dense = numbered(&resnet(2, None));
    let factorized = factorize(&resnet(2, None), &dense).unwrap();
    let second = &factorized["layer2.1.sub2.conv2.weight"];
    assert_eq!(second.shape, [8, 16, 3, 3]);
    assert_eq!(second.data[..], dense["layer2.1.conv2.weight"].data[8 * 16 * 9..]);
    assert_eq!(factorized["layer2.1.sub1.conv3.weight"].shape, [64, 8, 1, 1]);
    assert_eq!(factorized["layer2.1.sub1.bn2.running_var"].shape, [8]);
    for shared in ["layer2.1.conv1.weight", "layer2.1.bn3.bias", "layer2.0.downsample.0.weight"] {
        assert!(factorized.contains_key(shared), "{shared} is shared");
    }
    assert_eq!(resnet(2, None).gate_tensors().len(), 5);
}

/// Weights in either form go in, the wanted form comes out, routers and all.
#[test]
fn either_form_goes_in() {
    for architecture in [resnet(2, None), lite(LiteVariant::Lite0, 3, None)] {
        let dense = numbered(&architecture);
        let mut factorized = factorize(&architecture, &dense).unwrap();
        let gates: TensorMap = architecture
            .gate_tensors()
            .into_iter()
            .map(|gate| (gate.name, Tensor::full(gate.shape, 0.5)))
            .collect();
        let mut gated = dense.clone();
        gated.extend(gates.clone());
        factorized.extend(gates);
        assert_identical(&to_factorized(&architecture, &gated).unwrap(), &factorized);
        assert_identical(&to_factorized(&architecture, &factorized).unwrap(), &factorized);
        assert_identical(&to_dense(&architecture, &gated).unwrap(), &dense);
        assert_identical(&to_dense(&architecture, &factorized).unwrap(), &dense);
        assert_eq!(Inventory::of(&architecture, &factorized).form, WeightForm::Factorized);
    }
}

/// Names and shapes alone tell which network a file is of.
#[test]
fn a_network_is_recognised_by_its_tensors() {
    let vit = Architecture::Vit(Vit { depth: 2, sub_blocks: 3, ..Vit::deit_small_distilled() });
    for architecture in [vit, resnet(4, Some(5)), lite(LiteVariant::Lite2, 3, Some(6))] {
        let dense = numbered(&architecture);
        let k = architecture.sub_blocks();
        assert_eq!(arch::infer(&dense, k, None).unwrap(), architecture);
        // A factorised file brings its own K.
        let factorized = factorize(&architecture, &dense).unwrap();
        assert_eq!(arch::infer(&factorized, 1, None).unwrap(), architecture);
    }
    for (architecture, golden) in golden_vits() {
        let Architecture::Vit(net) = &architecture else { panic!("not a ViT") };
        let dense = with_prefix(&golden, "dense.");
        // A width of heads of 64 would go without saying.
        let guessed = arch::infer(&dense, net.sub_blocks, None);
        if !net.dim.is_multiple_of(64) {
            let error = guessed.unwrap_err().to_string();
            assert!(error.contains("how many heads"), "{error}");
        }
        assert_eq!(arch::infer(&dense, net.sub_blocks, Some(net.heads)).unwrap(), architecture);
    }
    let error = arch::infer(&TensorMap::from([("a.b".to_owned(), Tensor::full(vec![1], 0.0))]), 3, None);
    assert!(error.unwrap_err().to_string().contains("a.b"));
}
