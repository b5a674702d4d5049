"""The server that most teams would write: FastAPI, Pillow, ONNX Runtime, faiss. Same model, same catalogue, same answer as dfml's.

    MODEL=model VECTORS=vectors.npy IDS=ids.txt THREADS=2 uvicorn --app-dir tests/peers/fastapi server:app --port 9100 --no-access-log

The endpoint is a plain function, which FastAPI runs on its thread pool: the usual advice for work that keeps a core busy. JPEGs are decoded at
reduced scale where that is safe (`Image.draft`), as a careful author would.
"""

import io
import json
import os

import faiss
import numpy
import onnxruntime
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image, ImageOps

THREADS = int(os.environ["THREADS"])
MODEL = os.environ["MODEL"]
transform = json.load(open(f"{MODEL}/manifest.json"))["transform"]
mean = numpy.array(transform["mean"], dtype=numpy.float32)
std = numpy.array(transform["std"], dtype=numpy.float32)
short, height, width = transform["resize_short"], transform["crop_height"], transform["crop_width"]

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = THREADS
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(f"{MODEL}/model.onnx", options, providers=["CPUExecutionProvider"])

vectors = numpy.load(os.environ["VECTORS"]).astype(numpy.float32)
items = [line.rstrip("\n").split("\t") for line in open(os.environ["IDS"])]
faiss.omp_set_num_threads(1)
index = faiss.IndexFlatIP(vectors.shape[1])
index.add(vectors)

app = FastAPI()


def preprocess(body):
    image = Image.open(io.BytesIO(body))
    image.draft("RGB", (2 * short, 2 * short))
    image = ImageOps.exif_transpose(image).convert("RGB")
    scale = short / min(image.size)
    size = [max(short, int(side * scale)) for side in image.size]
    image = image.resize(size, Image.BILINEAR)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    pixels = numpy.asarray(image.crop((left, top, left + width, top + height)), dtype=numpy.float32)
    return ((pixels - mean) / std).transpose(2, 0, 1)[None]


def answer(body, k):
    (embedding,) = session.run(["embedding"], {"pixels": preprocess(body)})
    # Over-fetches, then keeps the best picture of each product.
    scores, found = index.search(embedding, 8 * k)
    results, seen = [], set()
    for score, position in zip(scores[0], found[0]):
        item, product = items[position]
        if product not in seen:
            seen.add(product)
            results.append({"rank": len(results) + 1, "score": float(score), "product_id": product, "item_id": item})
            if len(results) == k:
                break
    return {"results": results}


@app.post("/v1/search")
async def search(request: Request, k: int = 12):
    body = await request.body()
    return await run_in_threadpool(answer, body, k)


@app.get("/readyz")
def ready():
    return "ok"
