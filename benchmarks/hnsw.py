"""What Chroma's graph costs and finds on real vectors, by its settings: recall against exact search, latency, indexing time.

    python benchmarks/passages.py DATA FOLDER
    python benchmarks/hnsw.py FOLDER [--count 20000] [--settings 16/100,24/128,32/200] [--search 100,200,400] [--out FILE]

A setting is max_neighbors/ef_construction; ef_search can be changed after building, so every setting is built once. The vectors
are the first ``count`` of FOLDER, ``real`` of them as they are there and the rest made up (`passages.grown`), the queries its
questions. Chroma is asked for 100 passages, as the program asks; recall@10 is the share of the ten nearest among its first ten.
Times are of the processor, of one query at a time.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import chromadb
import harness
import numpy as np
from chromadb.api.collection_configuration import CreateCollectionConfiguration, CreateHNSWConfiguration
from chromadb.config import Settings
from numpy.typing import NDArray
from passages import grown, vectors

DEPTH = 100
_BATCH = 1000


def nearest(stored: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Rows of the ``k`` nearest for each query, best first."""
    similarity = queries @ stored.T
    some = np.argpartition(-similarity, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similarity, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def build(folder: Path, stored: NDArray[np.float32], setting: str, batch: int, sync: int) -> dict[str, float]:
    """Writes the vectors as the program does; processor seconds, bytes, peak memory."""
    neighbours, construction = map(int, setting.split("/"))
    hnsw = CreateHNSWConfiguration(
        space="cosine", max_neighbors=neighbours, ef_construction=construction, batch_size=batch, sync_threshold=sync
    )
    client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
    collection = client.create_collection("hnsw", embedding_function=None, configuration=CreateCollectionConfiguration(hnsw=hnsw))
    started = time.process_time()
    for at in range(0, len(stored), _BATCH):
        some = stored[at : at + _BATCH]
        collection.upsert(ids=[f"{n:032x}" for n in range(at, at + len(some))], embeddings=some)
    took = time.process_time() - started
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": took, "size": size / 2**20, "memory": memory}


def search(folder: Path, stored: NDArray[np.float32], queries: NDArray[np.float32], ef: int) -> dict[str, float]:
    client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
    started = time.process_time()
    collection = client.get_collection("hnsw", embedding_function=None)
    collection.modify(configuration={"hnsw": {"ef_search": ef}})
    collection.query(query_embeddings=queries[:1], n_results=DEPTH, include=["distances"])
    first, times, found = time.process_time() - started, [], []
    for query in queries:
        at = time.process_time()
        ids = collection.query(query_embeddings=query[None], n_results=DEPTH, include=["distances"])["ids"][0]
        times.append((time.process_time() - at) * 1000)
        found.append([int(each, 16) for each in ids])
    best = nearest(stored, queries, DEPTH)
    recall = {k: statistics.mean(len({*best[at, :k]} & {*row[:k]}) / k for at, row in enumerate(found)) for k in (1, 10, 100)}
    return {
        "first": first,
        "p50": statistics.median(times),
        "p95": sorted(times)[int(len(times) * 0.95)],
        **{f"recall@{k}": share for k, share in recall.items()},
    }


def apart(*arguments: object) -> dict[str, float]:
    """The same script in a process of its own, for one step; its figures."""
    done = subprocess.run([sys.executable, __file__, "--step", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout))


def step(name: str, folder: str, given: str, count: str, real: str, queries: str, *more: str) -> dict[str, float]:
    stored = grown(vectors(Path(given) / "vectors.f32")[: int(real) or None], int(count))
    if name == "build":
        return build(Path(folder), stored, more[0], int(more[1]), int(more[2]))
    return search(Path(folder), stored, vectors(Path(given) / "questions.f32")[: int(queries)], int(more[0]))


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(step(*sys.argv[2:])))
        return
    options = harness.parser(__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--count", type=int, default=20_000)
    options.add_argument("--real", type=int, default=0, help="how many vectors are real ones; 0: all that there are")
    options.add_argument("--queries", type=int, default=300)
    options.add_argument("--settings", default="16/100,24/128,32/200")
    options.add_argument("--search", default="100,200,400")
    options.add_argument("--batch", type=int, default=100, help="Chroma's batch_size")
    options.add_argument("--sync", type=int, default=1000, help="Chroma's sync_threshold")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    lines = [
        f"`python benchmarks/hnsw.py FOLDER --count {given.count} --real {given.real} --queries {given.queries} --settings"
        f" {given.settings} --search {given.search} --batch {given.batch} --sync {given.sync}`,"
        f" {len(vectors(given.folder / 'vectors.f32')):,} real vectors, load {os.getloadavg()[0]:.1f} at the start.",
        "",
        "| neighbours / ef_construction | ef_search | recall@1 | recall@10 | recall@100 | query CPU ms, p50 / p95 |"
        " first query CPU s | building CPU s | vectors per CPU s | MiB on disk | MiB building |",
        "|---|" + "---:|" * 10,
    ]
    for setting in given.settings.split(","):
        with tempfile.TemporaryDirectory() as folder:
            common = (folder, given.folder, given.count, given.real, given.queries)
            built = apart("build", *common, setting, given.batch, given.sync)
            for ef in given.search.split(","):
                found = apart("search", *common, ef)
                lines.append(
                    f"| {setting} | {ef} | {found['recall@1']:.3f} | {found['recall@10']:.3f} | {found['recall@100']:.3f} |"
                    f" {found['p50']:.1f} / {found['p95']:.1f} | {found['first']:.2f} | {built['seconds']:.0f} |"
                    f" {given.count / built['seconds']:.0f} | {built['size']:.0f} | {built['memory']:.0f} |"
                )
                print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    if given.out:
        harness.write(given.out, "Chroma's graph", "\n".join(lines))


if __name__ == "__main__":
    main()
