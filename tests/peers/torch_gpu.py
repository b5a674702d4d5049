"""How many images a second PyTorch puts through one of timm's networks on a GPU: the peer of `dfml bench embed --provider cuda`.

    python tests/peers/torch_gpu.py deit_small_distilled_patch16_224 [--batches 1 8 32 128] [--seconds 2]

Weights are random: speed does not depend on them. Each number is the median of five rounds; pixels are copied to the GPU and
embeddings back in each run, as a server does. `eager` and `compile` compute in float32 (no TF32), `half` is eager in float16.
"""

import argparse
import json
import statistics
import time

import timm
import torch


def rate(run, pixels, seconds):
    """Images a second of `run`."""
    batch, images, began = pixels.shape[0], 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        run(pixels)
        images += batch
    return images / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=float, default=2.0, help="per number")
    parser.add_argument("--forms", nargs="+", default=["eager", "compile", "half"])
    parser.add_argument("--side", type=int, default=224)
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    network = timm.create_model(args.network, pretrained=False, num_classes=0).eval().cuda()
    figures = {}
    for form in args.forms:
        model = network.half() if form == "half" else network
        if form == "compile":
            model = torch.compile(model)
        kind = torch.float16 if form == "half" else torch.float32

        @torch.inference_mode()
        def run(pixels):
            return model(pixels.cuda(non_blocking=True).to(kind)).float().cpu()

        for batch in args.batches:
            pixels = torch.randn(batch, 3, args.side, args.side).pin_memory()
            for _ in range(3):
                run(pixels)
            rounds = [rate(run, pixels, args.seconds / 5) for _ in range(5)]
            figures[f"{form} {batch}"] = round(statistics.median(rounds), 1)
    print(json.dumps({"network": args.network, "gpu": torch.cuda.get_device_name(), "images_per_second": figures}))


if __name__ == "__main__":
    main()
