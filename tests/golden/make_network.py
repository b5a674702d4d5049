"""A reference network of any size, in the form of the files beside this one, from a second implementation (JAX, 64 bits).

    pip install jax numpy safetensors
    python make_network.py --check deit_distilled.safetensors      # this implementation against the official numbers
    python make_network.py OUT.safetensors --like deit_distilled.safetensors \\
        --dim 72 --heads 9 --depth 2 --image-size 24 --patch-size 4 --kind plain --seed 1

The tests read every such file of the folder DFML_GOLDEN_DIR names. Only the numbers in `losses.*`, which no network has a part in,
are those of the file named by --like.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

jax.config.update("jax_enable_x64", True)
stop = jax.lax.stop_gradient
EPS, LEARNING_RATE, PROXY_RATE, DECAY, CLIP = 1e-6, 1e-4, 1e-2, 1e-4, 10.0


def norm(x, p, name):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + EPS) * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(x, p, name):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def attention(x, p, name, k, heads):
    """Sub-block k with its own heads."""
    batch, tokens, _ = x.shape
    qkv = linear(x, p, f"{name}.qkv{k}").reshape(batch, tokens, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    q, key, v = qkv
    weights = jax.nn.softmax(q @ key.swapaxes(-1, -2) * q.shape[-1] ** -0.5, axis=-1)
    return linear((weights @ v).swapaxes(1, 2).reshape(batch, tokens, -1), p, f"{name}.proj{k}")


def mlp(x, p, name, k):
    return linear(jax.nn.gelu(linear(x, p, f"{name}.mlp{k}.fc1"), approximate=False), p, f"{name}.mlp{k}.fc2")


def route(x, weight):
    """One-hot with the straight-through gradient, and the choice."""
    soft = jax.nn.softmax(x @ weight.T, axis=-1)
    choice = soft.argmax(-1)
    return stop(jax.nn.one_hot(choice, weight.shape[0]) - soft) + soft, choice


def mask(parts, gate):
    return sum(part * gate[..., k : k + 1] for k, part in enumerate(parts))


def gap(routed, full):
    return jnp.sqrt(((routed - stop(full)) ** 2).sum(-1)).sum()


def embed(x, p, prefix):
    x = norm(x, p, "norm")[:, :prefix].mean(1)
    return x / jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-12)


def forward(p, images, net):
    """Both embeddings, choices, gaps."""
    batch, patch = images.shape[0], net["patch_size"]
    side, ks = net["image_size"] // patch, range(1, net["sub_blocks"] + 1)
    patches = images.reshape(batch, 3, side, patch, side, patch).transpose(0, 2, 4, 1, 3, 5).reshape(batch, side * side, -1)
    x = patches @ p["patch_embed.proj.weight"].reshape(net["dim"], -1).T + p["patch_embed.proj.bias"]
    first = [p[name] for name in ("cls_token", "dist_token") if name in p]
    x = jnp.concatenate([jnp.broadcast_to(t, (batch, 1, net["dim"])) for t in first] + [x], 1) + p["pos_embed"]
    full = routed = x
    heads, out = net["heads"] // net["sub_blocks"], {"route_attn": [], "route_mlp": [], "gap_attn": [], "gap_mlp": []}
    for i in range(net["depth"]):
        b = f"blocks.{i}"
        attend = lambda x: [attention(x, p, f"{b}.attn", k, heads) for k in ks]
        think = lambda x: [mlp(norm(x, p, f"{b}.norm2"), p, b, k) for k in ks]
        middle = full + sum(attend(norm(full, p, f"{b}.norm1")))
        full = middle + sum(think(middle))

        normed = norm(routed, p, f"{b}.norm1")
        parts, weight = attend(normed), p[f"{b}.attn.gate.weight"]
        gate, choice = route(normed, weight)
        out["route_attn"].append(choice)
        # Only the router learns from this gap.
        alone = stop(routed) + mask([stop(part) for part in parts], route(stop(normed), weight)[0])
        out["gap_attn"].append(gap(alone, middle))
        routed = routed + mask(parts, gate)
        gate, choice = route(routed, p[f"{b}.gate.weight"])
        out["route_mlp"].append(choice)
        routed = routed + mask(think(routed), gate)
        # The official code runs the MLPs again, on the stream after them.
        out["gap_mlp"].append(gap(stop(routed) + mask(think(stop(routed)), gate), full))
    out = {name: jnp.stack(values) for name, values in out.items()}
    return {"m1": embed(full, p, len(first)), "m2": embed(routed, p, len(first)), **out}


def proxy_anchor(x, proxies, labels, margin=0.1, alpha=32.0):
    unit = proxies / jnp.sqrt((proxies**2).sum(-1, keepdims=True) + 1e-12)
    cosine = x @ unit.T
    own = jax.nn.one_hot(labels, len(proxies))
    positive = jnp.log1p((own * jnp.exp(-alpha * (cosine - margin))).sum(0)).sum() / (own.sum(0) > 0).sum()
    return positive + jnp.log1p(((1 - own) * jnp.exp(alpha * (cosine + margin))).sum(0)).sum() / len(proxies)


def objective(p, proxies, images, labels, net):
    out = forward(p, images, net)
    full, routed = proxy_anchor(out["m1"], proxies, labels), proxy_anchor(out["m2"], proxies, labels)
    apart = jnp.sqrt(((out["m2"] - stop(out["m1"])) ** 2).sum(-1)).sum()
    distill = 0.1 * apart + 1e-5 / 12 * (out["gap_attn"].sum() + out["gap_mlp"].sum())
    total = full + 0.5 * routed + 0.5 * distill
    return total, {**out, "full": full, "routed": routed, "distill": distill}


def factorize(dense, net):
    out, k = {}, net["sub_blocks"]
    for name, value in dense.items():
        rows = lambda x: np.split(x, k)
        if ".attn.qkv." in name:
            thirds = [rows(third) for third in np.split(value, 3)]
            parts = [np.concatenate([third[i] for third in thirds]) for i in range(k)]
        elif ".attn.proj.w" in name or ".fc2.w" in name:
            parts = np.split(value, k, axis=1)
        elif ".attn.proj.b" in name or ".fc2.b" in name:
            parts = [value / np.float32(k)] * k
        elif ".fc1." in name:
            parts = rows(value)
        else:
            out[name] = value
            continue
        for i, part in enumerate(parts, 1):
            out[name.replace("qkv", f"qkv{i}").replace("attn.proj", f"attn.proj{i}").replace("mlp", f"mlp{i}")] = part
    return out


def results(tensors, net):
    """Everything that follows from `factorized.*`, `gate.*`, `input.*` and `loss.proxies`."""
    wide = lambda x: jnp.asarray(x, jnp.float64)
    below = lambda prefix: {n[len(prefix) :]: wide(v) for n, v in tensors.items() if n.startswith(prefix)}
    p = {n: v for n, v in {**below("factorized."), **below("gate.")}.items() if not n.startswith("head")}
    proxies, images, labels = wide(tensors["loss.proxies"]), wide(tensors["input.x"]), jnp.asarray(tensors["input.y"])
    (total, terms), gradients = jax.value_and_grad(objective, (0, 1), has_aux=True)(p, proxies, images, labels, net)
    out = {"eval.embedding": terms["m1"], "loss.distill": terms["distill"], "loss.total": total}
    out |= {f"loss.proxy_anchor_{stream}": terms[stream] for stream in ("full", "routed")}
    out |= {f"train.{name}": terms[name] for name in ("m1", "m2", "route_attn", "route_mlp", "gap_attn", "gap_mlp")}
    steps = [(n, v, gradients[0][n], LEARNING_RATE) for n, v in p.items()] + [("proxies", proxies, gradients[1], PROXY_RATE)]
    for name, value, gradient, rate in steps:
        gradient = jnp.clip(gradient, -CLIP, CLIP)
        # The first step of AdamW: both moments are the gradient's own.
        out |= {f"grad.{name}": gradient, f"step1.{name}": value * (1 - rate * DECAY) - rate * gradient / (abs(gradient) + 1e-8)}
    narrow = lambda x: x.astype(np.int64 if np.issubdtype(x.dtype, np.integer) else np.float32)
    return {name: np.asarray(narrow(np.asarray(value)), order="C") for name, value in out.items()}


def read(path):
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def numbers(metadata):
    return {name: int(metadata[name]) for name in ("dim", "heads", "depth", "image_size", "patch_size", "sub_blocks")}


def check(path):
    tensors, metadata = read(path)
    found = results(tensors, numbers(metadata))
    for name, value in found.items():
        # A first step along a gradient that is 0 but for rounding goes by the rounding's sign.
        scale = 2.01 * LEARNING_RATE if name.startswith("step1") else 1e-4 * max(abs(tensors[name]).max(), 1e-7)
        assert abs(value - tensors[name]).max() <= scale, f"{path}: {name}"
    print(f"{path}: {len(found)} tensors agree")


def make(args):
    tensors, metadata = read(args.like)
    tensors = {name: value for name, value in tensors.items() if name.startswith("losses.")}
    rng = np.random.default_rng(args.seed)
    metadata |= {name: str(getattr(args, name)) for name in ("dim", "heads", "depth", "image_size", "patch_size", "kind")}
    net = numbers(metadata)
    dim, patch, k = net["dim"], net["patch_size"], net["sub_blocks"]
    draw = lambda std, *shape: (std * rng.standard_normal(shape)).astype(np.float32)
    first = ["cls_token", "dist_token"] if args.kind == "distilled" else ["cls_token"]
    dense = {name: draw(0.5, 1, 1, dim) for name in first}
    dense["pos_embed"] = draw(0.5, 1, (net["image_size"] // patch) ** 2 + len(first), dim)
    dense |= {"patch_embed.proj.weight": draw(0.1, dim, 3, patch, patch), "patch_embed.proj.bias": draw(0.1, dim)}
    for name in [f"blocks.{i}.norm{n}" for i in range(net["depth"]) for n in (1, 2)] + ["norm"]:
        dense |= {f"{name}.weight": 1 + draw(0.1, dim), f"{name}.bias": draw(0.1, dim)}
    for i in range(net["depth"]):
        layers = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim), "mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
        for name, shape in layers.items():
            dense |= {f"blocks.{i}.{name}.weight": draw(shape[1] ** -0.5, *shape), f"blocks.{i}.{name}.bias": draw(0.1, shape[0])}
        tensors |= {f"gate.blocks.{i}.{name}gate.weight": draw(0.3, k, dim) for name in ("attn.", "")}
    tensors |= {f"dense.{name}": value for name, value in dense.items()}
    tensors |= {f"factorized.{name}": value for name, value in factorize(dense, net).items()}
    classes = int(metadata["classes"])
    tensors |= {"input.x": draw(1, 6, 3, net["image_size"], net["image_size"]), "input.y": np.arange(6) % classes}
    tensors["loss.proxies"] = draw(0.6, classes, dim)
    tensors |= results(tensors, net)
    save_file({name: np.asarray(value, order="C") for name, value in tensors.items()}, args.out, metadata)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", help="the file to write")
    parser.add_argument("--check", help="a file whose numbers are compared with this implementation's; nothing is written")
    parser.add_argument("--like", help="a file of this form, whose losses.* and settings are taken")
    for name, default in (("dim", 72), ("heads", 9), ("depth", 2), ("image-size", 24), ("patch-size", 4), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--kind", choices=("plain", "distilled"), default="plain")
    args = parser.parse_args()
    if args.check:
        check(args.check)
    elif args.out and args.like:
        make(args)
    else:
        parser.error("either --check FILE, or OUT and --like FILE")


if __name__ == "__main__":
    main()
