//! Vision transformers: an attention's heads and an MLP's hidden units are cut in K groups.
//!
//! Names and values follow the official conversion of DFML, which divides the output biases by K.

use super::{FactorizeError, Source, columns, join_columns, join_rows, rows};
use crate::arch::{TensorSpec, Vit};
use crate::weights::{Tensor, TensorMap};

pub(super) fn factorize(net: &Vit, dense: &mut Source<'_>) -> Result<TensorMap, FactorizeError> {
    let mut out = TensorMap::new();
    copy_shared(net, dense, &mut out)?;
    if net.sub_blocks == 1 {
        return Ok(out);
    }
    let (dim, hidden, k) = (net.dim, net.mlp_hidden, net.sub_blocks);
    for block in 0..net.depth {
        let p = format!("blocks.{block}");
        let qkv_weight = dense.get(&format!("{p}.attn.qkv.weight"), &[3 * dim, dim])?;
        let qkv_bias = dense.get(&format!("{p}.attn.qkv.bias"), &[3 * dim])?;
        let proj_weight = dense.get(&format!("{p}.attn.proj.weight"), &[dim, dim])?;
        let proj_bias = divided(dense.get(&format!("{p}.attn.proj.bias"), &[dim])?, k);
        let fc1_weight = dense.get(&format!("{p}.mlp.fc1.weight"), &[hidden, dim])?;
        let fc1_bias = dense.get(&format!("{p}.mlp.fc1.bias"), &[hidden])?;
        let fc2_weight = dense.get(&format!("{p}.mlp.fc2.weight"), &[dim, hidden])?;
        let fc2_bias = divided(dense.get(&format!("{p}.mlp.fc2.bias"), &[dim])?, k);
        let (d, h) = (dim / k, hidden / k);
        for i in 0..k {
            let n = i + 1;
            let mut put = |name: String, tensor| out.insert(format!("{p}.{name}"), tensor);
            put(format!("attn.qkv{n}.weight"), head_group(qkv_weight, i, k));
            put(format!("attn.qkv{n}.bias"), head_group(qkv_bias, i, k));
            put(format!("attn.proj{n}.weight"), columns(proj_weight, i * d, d));
            put(format!("attn.proj{n}.bias"), proj_bias.clone());
            put(format!("mlp{n}.fc1.weight"), rows(fc1_weight, i * h, h));
            put(format!("mlp{n}.fc1.bias"), rows(fc1_bias, i * h, h));
            put(format!("mlp{n}.fc2.weight"), columns(fc2_weight, i * h, h));
            put(format!("mlp{n}.fc2.bias"), fc2_bias.clone());
        }
    }
    Ok(out)
}

pub(super) fn fold(net: &Vit, factorized: &mut Source<'_>) -> Result<TensorMap, FactorizeError> {
    let mut out = TensorMap::new();
    copy_shared(net, factorized, &mut out)?;
    if net.sub_blocks == 1 {
        return Ok(out);
    }
    let (dim, hidden, k) = (net.dim, net.mlp_hidden, net.sub_blocks);
    for block in 0..net.depth {
        let p = format!("blocks.{block}");
        let mut parts = |name: &dyn Fn(usize) -> String, shape: &[usize]| {
            (1..=k).map(|n| factorized.get(&format!("{p}.{}", name(n)), shape)).collect::<Result<Vec<_>, _>>()
        };
        let (d, h) = (dim / k, hidden / k);
        let joined = [
            ("attn.qkv.weight", join_head_groups(&parts(&|n| format!("attn.qkv{n}.weight"), &[3 * d, dim])?)),
            ("attn.qkv.bias", join_head_groups(&parts(&|n| format!("attn.qkv{n}.bias"), &[3 * d])?)),
            ("attn.proj.weight", join_columns(&parts(&|n| format!("attn.proj{n}.weight"), &[dim, d])?)),
            ("attn.proj.bias", sum(&parts(&|n| format!("attn.proj{n}.bias"), &[dim])?)),
            ("mlp.fc1.weight", join_rows(&parts(&|n| format!("mlp{n}.fc1.weight"), &[h, dim])?)),
            ("mlp.fc1.bias", join_rows(&parts(&|n| format!("mlp{n}.fc1.bias"), &[h])?)),
            ("mlp.fc2.weight", join_columns(&parts(&|n| format!("mlp{n}.fc2.weight"), &[dim, h])?)),
            ("mlp.fc2.bias", sum(&parts(&|n| format!("mlp{n}.fc2.bias"), &[dim])?)),
        ];
        out.extend(joined.map(|(name, tensor)| (format!("{p}.{name}"), tensor)));
    }
    Ok(out)
}

/// Copies what is the same in both forms: all but attention and MLP (and those too if there is one sub-block).
fn copy_shared(net: &Vit, from: &mut Source<'_>, out: &mut TensorMap) -> Result<(), FactorizeError> {
    let is_split = |spec: &TensorSpec| spec.name.contains(".attn.") || spec.name.contains(".mlp.");
    for spec in net.dense_tensors().iter().filter(|spec| net.sub_blocks == 1 || !is_split(spec)) {
        from.copy(spec, out)?;
    }
    Ok(())
}

/// The rows of head group `i` of `k` out of stacked queries, keys and values.
fn head_group(qkv: &Tensor, i: usize, k: usize) -> Tensor {
    let third = qkv.shape[0] / 3;
    let len = third / k;
    let parts = [0, 1, 2].map(|part| rows(qkv, part * third + i * len, len));
    join_rows(&[&parts[0], &parts[1], &parts[2]])
}

/// Head groups joined to stacked queries, keys and values.
fn join_head_groups(groups: &[&Tensor]) -> Tensor {
    let len = groups[0].shape[0] / 3;
    let parts: Vec<Tensor> =
        (0..3).flat_map(|part| groups.iter().map(move |group| rows(group, part * len, len))).collect();
    join_rows(&parts.iter().collect::<Vec<_>>())
}

/// Each element divided by `k`, as the official conversion does it.
fn divided(tensor: &Tensor, k: usize) -> Tensor {
    let k = k as f32;
    Tensor::new(tensor.shape.clone(), tensor.data.iter().map(|x| x / k).collect())
}

/// The elementwise sum, in double precision: trained biases of sub-blocks differ.
fn sum(parts: &[&Tensor]) -> Tensor {
    let data = (0..parts[0].numel())
        .map(|i| parts.iter().map(|part| f64::from(part.data[i])).sum::<f64>() as f32)
        .collect();
    Tensor::new(parts[0].shape.clone(), data)
}
