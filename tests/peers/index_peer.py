"""One of the libraries that `dfml bench index` is compared with, behind a line of JSON per request.

Started by the benchmark as `python3 index_peer.py NAME`. Answers each line on standard input with a line on standard output.
All searches run on one thread, and their time is that thread's processor time.
"""

import json
import os
import sys
import time

import numpy as np


class Hnswlib:
    def build(self, vectors, m, effort):
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self.index.init_index(max_elements=len(vectors), M=m, ef_construction=effort, random_seed=1)
        self.index.add_items(vectors, num_threads=1)
        self.index.set_num_threads(1)

    def search(self, queries, k, effort, batch):
        self.index.set_ef(max(effort, k))
        return self.index.knn_query(queries, k=k, num_threads=1)[0]

    def save(self, path):
        self.index.save_index(path)

    def load(self, path):
        import hnswlib

        index = hnswlib.Index(space="ip", dim=self.index.dim)
        index.load_index(path)


class FaissHnsw:
    def build(self, vectors, m, effort):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexHNSWFlat(vectors.shape[1], m, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = effort
        self.index.add(vectors)

    def search(self, queries, k, effort, batch):
        self.index.hnsw.efSearch = max(effort, k)
        return self.index.search(queries, k)[1]

    def save(self, path):
        import faiss

        faiss.write_index(self.index, path)

    def load(self, path):
        import faiss

        faiss.read_index(path)


class FaissFlat(FaissHnsw):
    def build(self, vectors, m, effort):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexFlatIP(vectors.shape[1])
        self.index.add(vectors)

    def search(self, queries, k, effort, batch):
        parts = [self.index.search(queries[at : at + batch], k)[1] for at in range(0, len(queries), batch)]
        return np.concatenate(parts)


class Usearch:
    def __init__(self, dtype):
        self.dtype = dtype

    def make(self, dim, m, effort):
        from usearch.index import Index

        return Index(
            ndim=dim, metric="ip", dtype=self.dtype, connectivity=m, expansion_add=effort, expansion_search=64
        )

    def build(self, vectors, m, effort):
        self.shape = (vectors.shape[1], m, effort)
        self.index = self.make(*self.shape)
        self.index.add(np.arange(len(vectors)), vectors, threads=1)

    def search(self, queries, k, effort, batch):
        self.index.expansion_search = max(effort, k)
        return self.index.search(queries, k, threads=1).keys

    def save(self, path):
        self.index.save(path)

    def load(self, path):
        self.make(*self.shape).load(path)


PEERS = {
    "hnswlib": Hnswlib,
    "faiss": FaissHnsw,
    "faiss-flat": FaissFlat,
    "usearch": lambda: Usearch("f32"),
    "usearch-i8": lambda: Usearch("i8"),
}


def answer(peer, request):
    op = request["op"]
    if op == "build":
        vectors = np.load(request["vectors"])
        clock, cpu = time.perf_counter(), time.process_time()
        peer.build(vectors, request["m"], request["effort"])
        return {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    if op == "search":
        queries = np.load(request["queries"])
        clock, cpu = time.perf_counter(), time.process_time()
        found = peer.search(queries, request["k"], request["effort"], request["batch"])
        spent = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
        np.ascontiguousarray(found, dtype="<i8").tofile(request["out"])
        return spent
    if op == "store":
        peer.save(request["path"])
        clock = time.perf_counter()
        peer.load(request["path"])
        return {"load_seconds": time.perf_counter() - clock, "file_bytes": os.path.getsize(request["path"])}
    raise ValueError(f"unknown op {op}")


def main():
    peer = PEERS[sys.argv[1]]()
    # Libraries print to standard output now and then; answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            result = answer(peer, json.loads(line))
        except Exception as error:  # the benchmark reports it and ends
            result = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(result) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
