//! Vision transformers as ONNX.
//!
//! Queries, keys and values come from one product; each is reshaped to heads and goes through plain attention.
//! The last block computes only the tokens that the embedding reads.

use super::conv_net::embed;
use super::graph::{Conv, GraphBuilder, Pads, Value};
use super::proto::{GraphProto, int_attribute, ints_attribute};
use crate::arch::{LAYER_NORM_EPS, Vit};
use crate::weights::{Tensor, TensorMap};

/// The graph for images of the network's own size; the weights are dense and complete.
pub(super) fn graph(net: &Vit, weights: &TensorMap) -> GraphProto {
    let (graph, pixels) = GraphBuilder::new("vit", net.image_size, net.image_size);
    let mut writer = Writer { graph, net, weights };
    let mut x = writer.tokens(&pixels);
    for block in 0..net.depth {
        x = writer.block(block, &x);
    }
    let rows = writer.read_out(&x);
    let rows = match net.embedding_dim {
        Some(_) => embed(&mut writer.graph, weights, &rows),
        None => rows,
    };
    writer.graph.finish(&rows, net.output_dim())
}

struct Writer<'a> {
    graph: GraphBuilder,
    net: &'a Vit,
    weights: &'a TensorMap,
}

impl<'a> Writer<'a> {
    fn weight(&self, name: &str) -> &'a Tensor {
        &self.weights[name]
    }

    /// Patch embeddings, preceded by the class (and distillation) token, plus positions: `[batch, tokens, dim]`.
    fn tokens(&mut self, pixels: &Value) -> Value {
        let (net, dim) = (self.net, self.net.dim);
        let (weight, bias) = (self.weight("patch_embed.proj.weight"), self.weight("patch_embed.proj.bias"));
        let conv = Conv {
            shape: &weight.shape,
            weight: &weight.data,
            bias: &bias.data,
            stride: net.patch_size,
            pads: Pads { top: 0, left: 0, bottom: 0, right: 0 },
            groups: 1,
        };
        let patches = self.graph.conv("patch_embed.proj", pixels, &conv);
        // 0 keeps the batch.
        let shape = self.graph.ints("patch_embed.shape", &[0, dim as i64, net.patches() as i64]);
        let flat = self.graph.node("Reshape", "patch_embed.flat", &[&patches, &shape], Vec::new());
        let turn = vec![ints_attribute("perm", &[0, 2, 1])];
        let patches = self.graph.node("Transpose", "patch_embed.tokens", &[&flat], turn);

        // The learned tokens are the same for every image; a slice of the input makes them as many as the batch.
        let learned = self.learned_tokens(&patches);
        let concat = vec![int_attribute("axis", 1)];
        let tokens = self.graph.node("Concat", "tokens", &[&learned, &patches], concat);
        let positions = self.weight("pos_embed");
        let positions = self.graph.floats("pos_embed", &positions.shape, &positions.data);
        self.graph.node("Add", "embedded", &[&tokens, &positions], Vec::new())
    }

    /// The class (and distillation) token, once per image.
    fn learned_tokens(&mut self, patches: &Value) -> Value {
        let (net, dim) = (self.net, self.net.dim);
        let mut data = self.weight("cls_token").data.clone();
        if net.distilled {
            data.extend_from_slice(&self.weight("dist_token").data);
        }
        let count = net.prefix_tokens();
        let learned = self.graph.floats("learned_tokens", &[1, count, dim], &data);
        let first = vec![int_attribute("start", 0), int_attribute("end", 1)];
        let batch = self.graph.node("Shape", "batch", &[patches], first);
        let rest = self.graph.ints("learned_tokens.rest", &[count as i64, dim as i64]);
        let concat = vec![int_attribute("axis", 0)];
        let shape = self.graph.node("Concat", "learned_tokens.shape", &[&batch, &rest], concat);
        self.graph.node("Expand", "learned_tokens.batched", &[&learned, &shape], Vec::new())
    }

    /// One transformer block: attention, then MLP, each on normalised tokens and added to its input.
    fn block(&mut self, block: usize, input: &Value) -> Value {
        let p = format!("blocks.{block}");
        let normed = self.norm(&format!("{p}.norm1"), input);
        let last = block + 1 == self.net.depth;
        // Keys and values need all tokens, queries only those that are read later.
        let (queried, residual) = if last {
            (
                self.read_tokens(&format!("{p}.queried"), &normed),
                self.read_tokens(&format!("{p}.kept"), input),
            )
        } else {
            (normed.clone(), input.clone())
        };
        let attended = self.attention(&p, &normed, &queried);
        let x = self.graph.node("Add", format!("{p}.attn.sum"), &[&residual, &attended], Vec::new());
        let normed = self.norm(&format!("{p}.norm2"), &x);
        let hidden = self.tokenwise(&format!("{p}.mlp.fc1"), &normed, 0..self.net.mlp_hidden);
        // Without attribute this is the exact form, with erf.
        let hidden = self.graph.node("Gelu", format!("{p}.mlp.gelu"), &[&hidden], Vec::new());
        let out = self.tokenwise(&format!("{p}.mlp.fc2"), &hidden, 0..self.net.dim);
        self.graph.node("Add", format!("{p}.mlp.sum"), &[&x, &out], Vec::new())
    }

    fn norm(&mut self, name: &str, input: &Value) -> Value {
        let (weight, bias) = (self.weight(&format!("{name}.weight")), self.weight(&format!("{name}.bias")));
        self.graph.layer_norm(name, input, LAYER_NORM_EPS, &weight.data, &bias.data)
    }

    /// The tokens that the embedding is made of: the first one or two.
    fn read_tokens(&mut self, name: &str, tokens: &Value) -> Value {
        let starts = self.graph.ints(&format!("{name}.start"), &[0]);
        let ends = self.graph.ints(&format!("{name}.end"), &[self.net.prefix_tokens() as i64]);
        let axes = self.graph.ints(&format!("{name}.axis"), &[1]);
        self.graph.node("Slice", name, &[tokens, &starts, &ends, &axes], Vec::new())
    }

    /// Rows of a linear layer applied to every token: `[batch, tokens, in]` to `[batch, tokens, rows]`.
    fn tokenwise(&mut self, name: &str, input: &Value, rows: std::ops::Range<usize>) -> Value {
        let layer = name.to_owned();
        self.tokenwise_as(name, &layer, input, rows)
    }

    fn tokenwise_as(
        &mut self,
        name: &str,
        layer: &str,
        input: &Value,
        rows: std::ops::Range<usize>,
    ) -> Value {
        let (weight, bias) = (self.weight(&format!("{layer}.weight")), self.weight(&format!("{layer}.bias")));
        let columns = weight.shape[1];
        let transposed: Vec<f32> =
            (0..columns).flat_map(|c| rows.clone().map(move |r| weight.data[r * columns + c])).collect();
        let matrix = self.graph.floats(&format!("{name}.weight"), &[columns, rows.len()], &transposed);
        let product = self.graph.node("MatMul", format!("{name}.product"), &[input, &matrix], Vec::new());
        let bias = self.graph.floats(&format!("{name}.bias"), &[rows.len()], &bias.data[rows]);
        self.graph.node("Add", name, &[&product, &bias], Vec::new())
    }

    /// Multi-head attention of the queried tokens over all tokens, with its output layer.
    fn attention(&mut self, p: &str, tokens: &Value, queried: &Value) -> Value {
        let (dim, heads, head_dim) = (self.net.dim, self.net.heads, self.net.head_dim());
        let layer = format!("{p}.attn.qkv");
        let split = self.graph.ints(&format!("{p}.attn.split"), &[0, -1, heads as i64, head_dim as i64]);
        let part = |writer: &mut Self, name: &str, input: &Value, at: usize, perm: &[i64]| {
            let name = format!("{p}.attn.{name}");
            let x = writer.tokenwise_as(&name, &layer, input, at * dim..(at + 1) * dim);
            let x = writer.graph.node("Reshape", format!("{name}.heads"), &[&x, &split], Vec::new());
            let turn = vec![ints_attribute("perm", perm)];
            writer.graph.node("Transpose", format!("{name}.turned"), &[&x], turn)
        };
        let q = part(self, "q", queried, 0, &[0, 2, 1, 3]);
        let k = part(self, "k", tokens, 1, &[0, 2, 3, 1]);
        let v = part(self, "v", tokens, 2, &[0, 2, 1, 3]);

        let scale = self.graph.floats(&format!("{p}.attn.scale"), &[], &[(head_dim as f32).powf(-0.5)]);
        let q = self.graph.node("Mul", format!("{p}.attn.q.scaled"), &[&q, &scale], Vec::new());
        let scores = self.graph.node("MatMul", format!("{p}.attn.scores"), &[&q, &k], Vec::new());
        let softmax = vec![int_attribute("axis", -1)];
        let shares = self.graph.node("Softmax", format!("{p}.attn.shares"), &[&scores], softmax);
        let mixed = self.graph.node("MatMul", format!("{p}.attn.mixed"), &[&shares, &v], Vec::new());
        let turn = vec![ints_attribute("perm", &[0, 2, 1, 3])];
        let mixed = self.graph.node("Transpose", format!("{p}.attn.mixed.turned"), &[&mixed], turn);
        let shape = self.graph.ints(&format!("{p}.attn.joined.shape"), &[0, -1, dim as i64]);
        let joined = self.graph.node("Reshape", format!("{p}.attn.joined"), &[&mixed, &shape], Vec::new());
        self.tokenwise(&format!("{p}.attn.proj"), &joined, 0..dim)
    }

    /// The embedding before its length is set to one: the mean of the normalised tokens that are read.
    fn read_out(&mut self, tokens: &Value) -> Value {
        let normed = self.norm("norm", tokens);
        let axes = self.graph.ints("read_out.axes", &[1]);
        self.graph.node("ReduceMean", "read_out", &[&normed, &axes], vec![int_attribute("keepdims", 0)])
    }
}
