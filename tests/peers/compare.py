"""dfml beside the FastAPI server with the same model and catalogue, in one run, taking turns.

    python3 -m venv peers && peers/bin/pip install -r tests/peers/fastapi/requirements.txt
    cargo build --release -p dfml-serve && cargo build --release -p dfml-tests --example load
    peers/bin/python tests/peers/compare.py --model MODEL --store STORE --list gallery.txt --queries query_views.txt

Each round asks both servers for some seconds with 1, 8 and 32 clients; the other one is idle meanwhile. The FastAPI server runs in the better of
two set-ups: one process with all threads, or a process per core with one thread each. Everything stays on 127.0.0.1.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DFML, FASTAPI = "http://127.0.0.1:9200", "http://127.0.0.1:9100"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["model", "store", "list", "queries"]:
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    parser.add_argument("--target", type=pathlib.Path, default=pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")))
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--json", type=pathlib.Path)
    return parser.parse_args()


def rows(path):
    lines = path.read_text().splitlines()[1:]
    return [line.split(maxsplit=3) for line in lines]


def wait(url):
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"{url} is not ready")


def load(args, url, clients, pictures):
    program = args.target / "release/examples/load"
    command = [program, "closed", "--clients", str(clients), "--seconds", str(args.seconds), "--url", f"{url}/v1/search?k=12", *pictures]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    wrong = {status: count for status, count in report["answers"].items() if status != "200"}
    return report["ok_per_second"], report["ok_ms"]["p50"], report["ok_ms"]["p99"], wrong


def fastapi(args, place, workers, threads):
    environment = dict(os.environ, MODEL=str(args.model), VECTORS=str(place / "vectors.npy"), IDS=str(place / "ids.tsv"), THREADS=str(threads))
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "tests/peers/fastapi"), "server:app", "--port", "9100",
               "--no-access-log", "--log-level", "warning", "--workers", str(workers)]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    wait(FASTAPI)
    return process


def stop(process):
    os.killpg(process.pid, 15)
    process.wait()


def main():
    args = arguments()
    place = args.store.parent / "peer"
    place.mkdir(exist_ok=True)
    dfml = args.target / "release/dfml"
    catalogue = rows(args.list)
    if not (place / "vectors.npy").exists():
        files = [str(args.list.parent / path) for *_, path in catalogue]
        subprocess.run([dfml, "embed", *files, "--model", args.model, "--format", "npy", "--out", place / "vectors.npy"], check=True)
    (place / "ids.tsv").write_text("".join(f"{path}\t{product}\n" for _, product, _, path in catalogue))
    random.seed(1)
    pictures = [str(args.queries.parent / path) for *_, path in random.sample(rows(args.queries), args.pictures)]
    cores = len(os.sched_getaffinity(0))

    server = subprocess.Popen([dfml, "--log", "warn", "serve", "--model", args.model, "--catalogue", args.store, "--bind", "127.0.0.1:9200"],
                              stdout=subprocess.DEVNULL)
    wait(DFML)
    setups = {}
    for workers, threads in [(1, cores), (cores, 1)]:
        peer = fastapi(args, place, workers, threads)
        load(args, FASTAPI, 8, pictures)
        setups[(workers, threads)] = load(args, FASTAPI, 8, pictures)[0]
        stop(peer)
    best = max(setups, key=setups.get)
    print(f"FastAPI set-ups (workers, threads): requests/s at 8 clients: {setups}; measured with {best}")
    peer = fastapi(args, place, *best)
    for url in [DFML, FASTAPI]:
        load(args, url, 4, pictures)
    figures = {}
    for _ in range(args.rounds):
        for clients in [1, 8, 32]:
            for name, url in [("dfml", DFML), ("fastapi", FASTAPI)]:
                figures.setdefault(clients, {}).setdefault(name, []).append(load(args, url, clients, pictures))
    stop(peer)
    server.terminate()
    server.wait()
    print("clients  dfml/s  fastapi/s  ratio   dfml p50  fastapi p50   dfml p99  fastapi p99  ratio   not 200")
    for clients, both in figures.items():
        middle = {name: [statistics.median(run[at] for run in runs) for at in range(3)] for name, runs in both.items()}
        (rate, p50, p99), (other, other50, other99) = middle["dfml"], middle["fastapi"]
        wrong = {name: [run[3] for run in runs if run[3]] for name, runs in both.items()}
        print(f"{clients:7d} {rate:7.1f} {other:10.1f} {rate / other:6.2f} {p50:8.1f} ms {other50:8.1f} ms {p99:8.1f} ms {other99:8.1f} ms"
              f" {p99 / other99:6.2f}   {wrong}")
    if args.json:
        args.json.write_text(json.dumps({"setups": {str(key): value for key, value in setups.items()}, "runs": figures}, indent=1))


if __name__ == "__main__":
    main()
