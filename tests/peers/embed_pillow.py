"""Embeds images the way a Python service does: Pillow, NumPy, ONNX Runtime. The peer of `dfml bench embed`.

Threads as in dfml: each decodes its own batch and computes it on its own single-threaded session (Pillow and ONNX
Runtime both let go of the interpreter's lock while they work). Reads jobs from standard input, one a line, so that a
round of it can be taken between rounds of dfml: `run` embeds all files and prints the seconds, `vectors FILE` embeds them
and writes the vectors as an .npy file.
"""

import argparse
import json
import os
import sys
import threading
import time

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--list", required=True, help="file with one image path a line")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    with open(os.path.join(args.model, "manifest.json")) as file:
        manifest = json.load(file)
    with open(args.list) as file:
        paths = file.read().splitlines()
    embedder = Embedder(args, manifest)
    print("ready", flush=True)
    for line in sys.stdin:
        job = line.split()
        clock, cpu = time.perf_counter(), time.process_time()
        vectors = embedder.embed(paths)
        spent = time.perf_counter() - clock, time.process_time() - cpu
        if job[0] == "vectors":
            np.save(job[1], vectors)
        print(*spent, flush=True)


class Embedder:
    def __init__(self, args, manifest):
        self.batch = args.batch
        self.dim = manifest["embedding_dim"]
        self.transform = Transform(manifest["transform"])
        path = os.path.join(args.model, manifest["files"]["model"]["name"])
        self.sessions = [session(path) for _ in range(args.threads)]

    def embed(self, paths):
        vectors = np.empty((len(paths), self.dim), np.float32)
        starts = iter(range(0, len(paths), self.batch))
        lock = threading.Lock()

        def work(session):
            while True:
                with lock:
                    start = next(starts, None)
                if start is None:
                    return
                batch = paths[start : start + self.batch]
                pixels = np.stack([self.transform(path) for path in batch])
                vectors[start : start + len(batch)] = session.run(["embedding"], {"pixels": pixels})[0]

        threads = [threading.Thread(target=work, args=(session,)) for session in self.sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return vectors


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Transform:
    """Resize the short side, crop the centre, normalise; as torchvision does it."""

    def __init__(self, transform):
        self.short = transform["resize_short"]
        self.height, self.width = transform["crop_height"], transform["crop_width"]
        self.mean = np.array(transform["mean"], np.float32)
        self.scale = 1 / np.array(transform["std"], np.float32)

    def __call__(self, path):
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        width, height = image.size
        if width <= height:
            size = self.short, self.short * height // width
        else:
            size = self.short * width // height, self.short
        image = image.resize(size, Image.BILINEAR)
        left, top = round((size[0] - self.width) / 2), round((size[1] - self.height) / 2)
        image = image.crop((left, top, left + self.width, top + self.height))
        pixels = (np.asarray(image, np.float32) - self.mean) * self.scale
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


if __name__ == "__main__":
    main()
