"""Latency, memory and size by the number of chunks, with random unit vectors and made-up texts.

    python benchmarks/scale.py [--sizes 1000,10000,100000,200000] [--queries 100] [--chroma URL] [--work FOLDER] [--out FILE]

Random vectors of 384 dimensions are the hardest that an HNSW graph can meet: recall against the exact search is told along.
Texts are 100 words drawn from 30,000 by Zipf's law; queries are eight such words and a vector near a stored one. Each size is a
collection of its own, written in a process of its own, searched in another. A query's time is the whole of it: embedding is a
look-up here, so it is dense, BM25, fusion, collapsing and fetching the passages.
Its processor time hardly depends on what else runs, as that of the wall does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfrag import ingest
from selfrag.index import admin, store
from selfrag.index.catalog import Catalog
from selfrag.index.collection import Collection
from selfrag.index.mirror import Mirror, exact
from selfrag.index.records import Entry, Hints, Source
from selfrag.index.retrieve import Fusion, Question
from selfrag.telemetry import silence_libraries

DIMENSION = 384
PER_SOURCE = 50


class Lookup:
    """An embedder that knows the vector of a query by its first word, a number."""

    def __init__(self) -> None:
        self.name, self.dimension = "lookup", DIMENSION
        self.fingerprint = {"revision": "1", "dimension": DIMENSION}

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.queries(texts)

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([unit(np.random.default_rng(int(text.split()[0]))) for text in texts])


def unit(source: np.random.Generator) -> NDArray[np.float32]:
    vector = source.standard_normal(DIMENSION, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def words(source: random.Random, count: int) -> str:
    return " ".join(f"w{int(30_000 ** source.random())}" for _ in range(count))


def open_it(home: Path, url: str | None) -> Collection:
    return Collection(home, "scale", url, open_embedder=lambda _: Lookup())


def write(home: Path, size: int, url: str | None) -> dict[str, float]:
    """Fills a collection; returns CPU seconds for the catalog and for Chroma, and the peak memory of this process in MiB."""
    opened, source = open_it(home, url), random.Random(size)
    catalog = store.new_generation(store.make(opened.folder), {"embedder": "lookup", "context": "headings", **ingest.FINGERPRINT})
    catalog.set_meta(vectors=Lookup().fingerprint, chroma=url or "")
    started = time.process_time()
    for first in range(0, size, PER_SOURCE):
        numbers = range(first, min(size, first + PER_SOURCE))
        catalog.put_embeddings((str(n), unit(np.random.default_rng(n)).tobytes()) for n in numbers)
        catalog.put(
            Source(f"/scale/{first}.txt", str(first), Hints(0, 0, 0, first), title=str(first)), list(entries(source, numbers))
        )
    stored = time.process_time()
    with Mirror(catalog, url).writing() as writer:
        writer.apply()
    store.serve(opened.folder, catalog.path.parent)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"catalog": stored - started, "chroma": time.process_time() - stored, "memory": memory}


def entries(source: random.Random, numbers: Sequence[int]) -> Iterator[Entry]:
    for at, number in enumerate(numbers):
        text = words(source, 100)
        yield Entry(f"{number:032x}", text, (), at, at + 1, (at + 1, at + 1), None, str(number), "", text)


def search(home: Path, size: int, url: str | None, queries: int) -> dict[str, float]:
    """Milliseconds of a query (median and 95th percentile) for each kind, recall@10 of Chroma, seconds of the first query."""
    source = random.Random(1)
    questions = [Question(f"{source.randrange(size)} {words(source, 8)}", 10) for _ in range(queries)]
    opened, found = open_it(home, url), {}
    started = time.monotonic()
    opened.find_now(questions[:1])
    found["first"] = time.monotonic() - started
    for name, fusion in {"dense": Fusion(bm25=0), "bm25": Fusion(dense=0), "fused": Fusion()}.items():
        opened.close()
        opened.fusion = fusion
        opened.find_now(questions[:1])
        times = [timed(opened, question) for question in questions]
        for clock, each in zip(("wall", "cpu"), zip(*times, strict=True), strict=True):
            found[f"{name} {clock} p50"], found[f"{name} {clock} p95"] = (
                statistics.median(each),
                sorted(each)[int(len(each) * 0.95)],
            )
    if opened.warnings:
        raise SystemExit(opened.warnings[0])
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found | recall(opened, questions[:20], url)


def timed(opened: Collection, question: Question) -> tuple[float, float]:
    """Milliseconds of the wall and of the processor, all threads together."""
    wall, cpu = time.monotonic(), time.process_time()
    opened.find_now([question])
    return (time.monotonic() - wall) * 1000, (time.process_time() - cpu) * 1000


def recall(opened: Collection, questions: Sequence[Question], url: str | None) -> dict[str, float]:
    """Share of the ten nearest that Chroma finds, and the milliseconds that comparing every vector takes."""
    generation = store.current(opened.folder)
    assert generation is not None
    with closing(Catalog.open(store.catalog_in(generation))) as catalog:
        mirror, vectors = Mirror(catalog, url), Lookup().queries([question.text for question in questions])
        vectors = vectors + 0.5 * Lookup().queries([f"{n + 10**9} x" for n in range(len(questions))])  # near, not equal
        with mirror.reading():
            ours = mirror.query(vectors, 10)
        started = time.process_time()
        best = [exact(catalog, vectors[at : at + 1], 10)[0] for at in range(len(questions))]
        took = (time.process_time() - started) / len(questions) * 1000
        hits = sum(len({key for key, _ in a} & {key for key, _ in b}) for a, b in zip(ours, best, strict=True))
        mirror.close()
    return {"recall": hits / (10 * len(questions)), "exact": took}


# --- the run -----------------------------------------------------------------------------------------------------------------


def apart(*arguments: object) -> dict[str, float]:
    """The same script in a process of its own, for one step; its figures."""
    done = subprocess.run([sys.executable, __file__, "--step", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout))


def main() -> None:
    silence_libraries()
    if sys.argv[1:2] == ["--step"]:
        step, home, size, url, queries = sys.argv[2:]
        work = (Path(home), int(size), url or None)
        print(json.dumps(write(*work) if step == "write" else search(*work, int(queries))))
        return
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--sizes", default="1000,10000,100000,200000")
    options.add_argument("--queries", type=int, default=100)
    options.add_argument("--chroma", default="")
    options.add_argument("--work", type=Path, help="keep the collections here; those that are here already are only searched")
    options.add_argument("--write-only", action="store_true", help="leave the searching to a later run; needs --work")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    if given.write_only:
        for size in map(int, given.sizes.split(",")):
            print(size, written(given.work / str(size), size, given.chroma), flush=True)
        return
    lines = [
        f"`python benchmarks/scale.py --sizes {given.sizes} --queries {given.queries}`, {os.cpu_count()} cores,"
        f" load {os.getloadavg()[0]:.1f} at the start. Times are of a query, k = 10, p50 / p95.",
        "",
        "| chunks | dense, CPU ms | BM25, CPU ms | fused, CPU ms | fused, wall ms | exact dense, CPU ms | recall@10 | first"
        " query s | catalog CPU s | Chroma CPU s | chunks/CPU s | MiB writing | MiB searching | MiB catalog | MiB vectors |",
        "|---:" * 15 + "|",
    ]
    for size in map(int, given.sizes.split(",")):
        lines.append(row(size, given.chroma, given.queries, given.work))
        print(lines[-1], file=sys.stderr, flush=True)
        if given.out:
            given.out.write_text("\n".join(["# Search by size", "", *lines, ""]), encoding="utf-8")
    print("\n".join(lines))


def written(folder: Path, size: int, url: str) -> dict[str, float]:
    """What writing costs, or has cost the run that made ``folder``."""
    figures = folder / "written.json"
    if not figures.exists():
        folder.mkdir(parents=True, exist_ok=True)
        figures.write_text(json.dumps(apart("write", folder, size, url, 0)), encoding="utf-8")
    return dict(json.loads(figures.read_text(encoding="utf-8")))


def row(size: int, url: str, queries: int, work: Path | None) -> str:
    folder = work / str(size) if work else Path(tempfile.mkdtemp())
    wrote = written(folder, size, url)
    read = apart("search", folder, size, url, queries)
    sizes = admin.status(open_it(folder, url or None), thorough=False).bytes
    if work is None:
        shutil.rmtree(folder)
    kinds = ("dense cpu", "bm25 cpu", "fused cpu", "fused wall")
    times = " | ".join(f"{read[f'{kind} p50']:.1f} / {read[f'{kind} p95']:.1f}" for kind in kinds)
    total = wrote["catalog"] + wrote["chroma"]
    return (
        f"| {size:,} | {times} | {read['exact']:.0f} | {read['recall']:.3f} | {read['first']:.1f} | {wrote['catalog']:.0f}"
        f" | {wrote['chroma']:.0f} | {size / total:.0f} | {wrote['memory']:.0f} | {read['memory']:.0f}"
        f" | {sizes['catalog'] / 2**20:.0f} | {sizes['vectors'] / 2**20:.0f} |"
    )


if __name__ == "__main__":
    main()
