"""Writes tiny PyTorch checkpoints without PyTorch: `python make_checkpoints.py` in this folder.

The same state dictionary in each container that torch.save has used: `legacy.pth` (a stream of pickles, before 1.6),
`zip.pth` (since 1.6), and `nested.pth` (zip, the weights under "model", beside other tensors). `hostile.pth` names a
global that would run a command if anything executed it; `expand.pth` holds four numbers and claims 10^9.
`vit_zip.pth` (the weights under "model") and `vit_legacy.pth` hold a transformer of one block under timm's names.
"""

import collections, io, pickle, struct, sys, types, zipfile

torch = types.ModuleType("torch")
torch_utils = types.ModuleType("torch._utils")
sys.modules["torch"] = torch
sys.modules["torch._utils"] = torch_utils


def _rebuild_tensor_v2(*args):
    raise NotImplementedError


_rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
torch_utils._rebuild_tensor_v2 = _rebuild_tensor_v2
for name in ["FloatStorage", "HalfStorage", "BFloat16Storage", "DoubleStorage", "LongStorage"]:
    setattr(torch, name, type(name, (), {"__module__": "torch"}))


class Tensor:
    """What a pickled tensor refers to: storage type, struct code or raw bytes, offset, size, stride."""

    def __init__(self, kind, code, values, size, stride, offset=0):
        self.kind, self.size, self.stride, self.offset = kind, size, stride, offset
        self.count = len(values)
        if code == "bf16":
            self.raw = b"".join(struct.pack("<f", v)[2:] for v in values)
        else:
            self.raw = struct.pack(f"<{len(values)}{code}", *values)

    def __reduce__(self):
        return _rebuild_tensor_v2, (Storage(self), self.offset, self.size, self.stride, False, collections.OrderedDict())


class Storage:
    def __init__(self, tensor):
        self.tensor = tensor


class Pickler(pickle.Pickler):
    def __init__(self, file, legacy):
        super().__init__(file, protocol=2)
        self.storages, self.legacy = {}, legacy

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        key = str(len(self.storages))
        self.storages[key] = value.tensor
        tail = (None,) if self.legacy else ()
        return ("storage", getattr(torch, value.tensor.kind), key, "cpu", value.tensor.count) + tail


def legacy(path, value):
    with open(path, "wb") as file:
        for header in [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}]:
            pickle.dump(header, file, protocol=2)
        pickler = Pickler(file, legacy=True)
        pickler.dump(value)
        pickle.dump(list(pickler.storages), file, protocol=2)
        for tensor in pickler.storages.values():
            file.write(struct.pack("<q", tensor.count) + tensor.raw)


def zipped(path, value):
    data = io.BytesIO()
    pickler = Pickler(data, legacy=False)
    pickler.dump(value)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        def write(name, content):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0)), content)
        write("data.pkl", data.getvalue())
        write("byteorder", "little")
        for key, tensor in pickler.storages.items():
            write(f"data/{key}", tensor.raw)
        write("version", "3\n")


def state():
    return collections.OrderedDict(
        [
            ("f32", Tensor("FloatStorage", "f", [0.0, 1.5, -2.25, 3.0, 4.0, 5.0], (2, 3), (3, 1))),
            ("transposed", Tensor("FloatStorage", "f", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], (3, 2), (1, 3))),
            ("offset", Tensor("FloatStorage", "f", [9.0, 9.0, 7.0, 8.0], (2,), (1,), offset=2)),
            ("f16", Tensor("HalfStorage", "e", [0.5, -65504.0], (2,), (1,))),
            ("bf16", Tensor("BFloat16Storage", "bf16", [1.0, -3.0], (2,), (1,))),
            ("f64", Tensor("DoubleStorage", "d", [0.1], (1,), (1,))),
            ("bn.num_batches_tracked", Tensor("LongStorage", "q", [123456], (), ())),
        ]
    )


def vit(dim=6, hidden=12, patch=4, patches=4, classes=2):
    """Every tensor's elements are numbered from 0."""
    shapes = {
        "cls_token": (1, 1, dim), "pos_embed": (1, 1 + patches, dim),
        "patch_embed.proj.weight": (dim, 3, patch, patch), "patch_embed.proj.bias": (dim,),
        "norm.weight": (dim,), "norm.bias": (dim,), "head.weight": (classes, dim), "head.bias": (classes,),
    }
    for norm in ["norm1", "norm2"]:
        shapes |= {f"blocks.0.{norm}.weight": (dim,), f"blocks.0.{norm}.bias": (dim,)}
    for name, rows, columns in [("attn.qkv", 3 * dim, dim), ("attn.proj", dim, dim), ("mlp.fc1", hidden, dim), ("mlp.fc2", dim, hidden)]:
        shapes |= {f"blocks.0.{name}.weight": (rows, columns), f"blocks.0.{name}.bias": (rows,)}
    tensors = collections.OrderedDict()
    for name, size in shapes.items():
        stride = [1]
        for extent in reversed(size[1:]):
            stride.insert(0, stride[0] * extent)
        tensors[name] = Tensor("FloatStorage", "f", range(size[0] * stride[0]), size, tuple(stride))
    return tensors


class Hostile:
    def __reduce__(self):
        import os

        return os.system, ("touch executed",)


legacy("legacy.pth", state())
zipped("zip.pth", state())
momentum = Tensor("FloatStorage", "f", [1.0], (1,), (1,))
zipped("nested.pth", {"epoch": 7, "model": state(), "optimizer": {"state": {0: {"exp_avg": momentum}}}})
zipped("hostile.pth", {"weight": Hostile()})
zipped("expand.pth", {"weight": Tensor("FloatStorage", "f", [1.0] * 4, (1000, 1000, 1000), (0, 0, 0))})
zipped("vit_zip.pth", {"model": vit()})
legacy("vit_legacy.pth", vit())
