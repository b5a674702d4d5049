//! Transformer blocks of which each token goes through one sub-block of the MLP, and through the output layer of one
//! sub-block of the attention.
//!
//! Queries, keys, values and their mixing are computed for all heads: a token's own third of them differs from that of its
//! neighbours, and sorting tokens within each image costs more than it saves.

use super::super::super::proto::{GraphProto, float_tensor, int_attribute, int_tensor};
use super::super::VariantError;
use super::super::edit::Edit;
use super::{Replaced, Sorted, replace};
use crate::arch::Vit;
use crate::weights::{Tensor, TensorMap};

pub(super) fn convert(
    graph: GraphProto,
    net: &Vit,
    factorized: &TensorMap,
) -> Result<GraphProto, VariantError> {
    let mut edit = Edit::of(graph);
    let writer = Writer { net, weights: factorized };
    let mut runs = Vec::new();
    let mut blocks = Vec::new();
    for block in 0..net.depth {
        let p = format!("blocks.{block}");
        if !factorized.contains_key(&format!("{p}.gate.weight")) {
            continue;
        }
        let named = |names: &[&str]| names.iter().map(|name| format!("{p}.{name}")).collect::<Vec<_>>();
        runs.push(Replaced::new(format!("{p}.attn.proj.product"), named(&["attn.proj"])));
        let rest = named(&["mlp.fc1", "mlp.gelu", "mlp.fc2.product", "mlp.fc2"]);
        runs.push(Replaced::new(format!("{p}.mlp.fc1.product"), rest));
        blocks.push(block);
    }
    replace(&mut edit, &runs, |edit, run, first| {
        let block = blocks[run / 2];
        let input = first.input[0].clone();
        if run % 2 == 0 { writer.attention(edit, block, &input) } else { writer.mlp(edit, block, &input) }
    })?;
    Ok(edit.finish())
}

struct Writer<'a> {
    net: &'a Vit,
    weights: &'a TensorMap,
}

impl Writer<'_> {
    fn weight(&self, name: &str) -> Result<&Tensor, VariantError> {
        let missing = || VariantError::Graph { reason: format!("the factorised weights have no {name}") };
        self.weights.get(name).ok_or_else(missing)
    }

    /// The output layer of the attention on `mixed`, `[batch, tokens, dim]`, whose columns are the sub-blocks' heads.
    fn attention(&self, edit: &mut Edit, block: usize, mixed: &str) -> Result<(), VariantError> {
        let p = format!("blocks.{block}.attn");
        let gate = self.weight(&format!("{p}.gate.weight"))?;
        // The router looks at what the queries are made of.
        let queried = edit.input_of(&format!("{p}.q.product"))?;
        let queried = self.rows(edit, &format!("{p}.router.input"), &queried);
        let sorted = Sorted::by_router(edit, &format!("{p}.router"), &queried, gate);
        let mixed = self.rows(edit, &format!("{p}.mixed.rows"), mixed);
        let width = self.net.dim / self.net.sub_blocks;
        let axis = edit.insert(int_tensor(&format!("{p}.columns"), &[1]));
        let mut results = Vec::new();
        for k in 0..self.net.sub_blocks {
            let name = format!("{p}.proj{}", k + 1);
            let own = sorted.take(edit, &format!("{name}.tokens"), &mixed, k);
            let ends = [k * width, (k + 1) * width].map(|column| column as i64);
            let [start, end] = ["start", "end"].map(|end| format!("{name}.{end}"));
            edit.insert(int_tensor(&start, &ends[..1]));
            edit.insert(int_tensor(&end, &ends[1..]));
            let heads =
                edit.node("Slice", &format!("{name}.heads"), &[&own, &start, &end, &axis], Vec::new());
            results.push(self.linear(edit, &name, &heads)?);
        }
        let rows = sorted.put_back(edit, &format!("{p}.proj.rows"), &results);
        self.tokens(edit, block, &format!("{p}.proj"), &rows);
        Ok(())
    }

    /// The MLP on `normed`, `[batch, tokens, dim]`.
    fn mlp(&self, edit: &mut Edit, block: usize, normed: &str) -> Result<(), VariantError> {
        let p = format!("blocks.{block}");
        let gate = self.weight(&format!("{p}.gate.weight"))?;
        // The router looks at the tokens before their normalisation.
        let tokens = self.rows(edit, &format!("{p}.router.input"), &format!("{p}.attn.sum"));
        let sorted = Sorted::by_router(edit, &format!("{p}.router"), &tokens, gate);
        let normed = self.rows(edit, &format!("{p}.mlp.rows"), normed);
        let mut results = Vec::new();
        for k in 0..self.net.sub_blocks {
            let name = format!("{p}.mlp{}", k + 1);
            let own = sorted.take(edit, &format!("{name}.tokens"), &normed, k);
            let hidden = self.linear(edit, &format!("{name}.fc1"), &own)?;
            let hidden = edit.node("Gelu", &format!("{name}.gelu"), &[&hidden], Vec::new());
            results.push(self.linear(edit, &format!("{name}.fc2"), &hidden)?);
        }
        let rows = sorted.put_back(edit, &format!("{p}.mlp.fc2.rows"), &results);
        self.tokens(edit, block, &format!("{p}.mlp.fc2"), &rows);
        Ok(())
    }

    /// A linear layer on rows.
    fn linear(&self, edit: &mut Edit, name: &str, input: &str) -> Result<String, VariantError> {
        let (weight, bias) = (self.weight(&format!("{name}.weight"))?, self.weight(&format!("{name}.bias"))?);
        let data = (&weight.shape, &weight.data);
        let weight = edit.insert(float_tensor(&format!("{name}.weight"), data.0, data.1));
        let bias = edit.insert(float_tensor(&format!("{name}.bias"), &bias.shape, &bias.data));
        Ok(edit.node("Gemm", name, &[input, &weight, &bias], vec![int_attribute("transB", 1)]))
    }

    /// `[batch, tokens, dim]` as `[batch * tokens, dim]`.
    fn rows(&self, edit: &mut Edit, name: &str, tokens: &str) -> String {
        let shape = edit.insert(int_tensor(&format!("{name}.shape"), &[-1, self.net.dim as i64]));
        edit.node("Reshape", name, &[tokens, &shape], Vec::new())
    }

    /// Back again; the last block has only the tokens that are read.
    fn tokens(&self, edit: &mut Edit, block: usize, name: &str, rows: &str) {
        let read = self.net.prefix_tokens();
        let count = if block + 1 == self.net.depth { read } else { read + self.net.patches() };
        let shape =
            edit.insert(int_tensor(&format!("{name}.shape"), &[-1, count as i64, self.net.dim as i64]));
        edit.node("Reshape", name, &[rows, &shape], Vec::new());
    }
}
