"""Latency, memory and size by the number of chunks, with real texts, real questions and, as far as there are, real vectors.

    python benchmarks/passages.py DATA FOLDER
    python benchmarks/scale.py FOLDER --work WORK [--sizes 1000,10000,100000,200000] [--queries 100] [--chroma URL] [--out FILE]

What the collections hold is told in benchmarks/passages.py; vectors that FOLDER lacks are made up by its `grown`. Each size is a
collection of its own in WORK, written in a process of its own, searched in another; one that is there already is only searched. A
query's time is all of it but the embedding, which is a look-up here: dense, BM25, fusion, collapsing and fetching the passages.
Processor time depends less on what else runs than that of the wall, but it does: up to 1.7 times as much has been seen.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import harness
import numpy as np
from numpy.typing import NDArray
from passages import DIMENSION, grown, rows, vectors

from selfrag import ingest
from selfrag.config.library_env import silence_libraries
from selfrag.index import generations, maintenance
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.catalog.rows import Entry, Hints, Source
from selfrag.index.collection import Collection
from selfrag.index.locks import chroma_alone
from selfrag.index.search.fulltext import words
from selfrag.index.search.hybrid import Fusion, Question
from selfrag.index.tantivy_index import TantivyIndex
from selfrag.index.vectors.brute_force import BruteForce
from selfrag.index.vectors.replica import Mirror

PER_SOURCE = 10
DEPTH = Fusion().depth
WRITTEN = ("catalog", "chroma", "words")


class Lookup:
    """An embedder that knows the vectors of the questions."""

    def __init__(self, folder: Path) -> None:
        self.name, self.dimension = "lookup", DIMENSION
        self.fingerprint: Mapping[str, str | int] = {"revision": "1", "dimension": DIMENSION}
        self._known = dict(zip(rows(folder / "questions.jsonl"), vectors(folder / "questions.f32"), strict=True))

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.queries(texts)

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._known[text] for text in texts])


def open_it(home: Path, given: Path, url: str | None) -> Collection:
    return Collection(home, "scale", url, open_embedder=lambda _: Lookup(given))


def write(home: Path, given: Path, size: int, url: str | None) -> dict[str, float]:
    """Fills a collection; returns CPU seconds for the catalog, Chroma and the index of words, and the peak memory in MiB."""
    opened = open_it(home, given, url)
    catalog = generations.new_generation(
        generations.make(opened.folder), {"embedder": "lookup", "context": "headings", **ingest.FINGERPRINT}
    )
    catalog.set_meta(vectors=Lookup(given).fingerprint, chroma=url or "")
    started = time.process_time()
    with (given / "passages.jsonl").open(encoding="utf-8") as texts, (given / f"grown-{size}.f32").open("rb") as stored:
        there = catalog.counts().chunks  # of a run that was stopped; its seconds are not counted
        stored.seek(4 * DIMENSION * there)
        lines = islice(texts, there, None)
        for first in range(there, size, PER_SOURCE):
            numbers = range(first, min(size, first + PER_SOURCE))
            catalog.put_embeddings((str(n), stored.read(4 * DIMENSION)) for n in numbers)
            source = Source(f"/scale/{first}.txt", str(first), Hints(0, 0, 0, first), title=str(first))
            catalog.put(source, [entry(number, *json.loads(next(lines))) for number in numbers])
    done = time.process_time()
    with Mirror(catalog, url).writing() as writer:
        writer.apply()
    mirrored = time.process_time()
    TantivyIndex(catalog).write()
    generations.serve(opened.folder, catalog.path.parent)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"catalog": done - started, "chroma": mirrored - done, "words": time.process_time() - mirrored, "memory": memory}


def entry(number: int, title: str, text: str) -> Entry:
    at = number % PER_SOURCE
    return Entry(f"{number:032x}", text, (), (), at, at + 1, (at + 1, at + 1), None, None, str(number), words(title), words(text))


def search(home: Path, given: Path, url: str | None, queries: int) -> dict[str, float]:
    """Milliseconds of a query (median and 95th percentile) for each kind, seconds of the first, memory, recall."""
    questions = [Question(text, 10) for text in rows(given / "questions.jsonl")[:queries]]
    opened, found = open_it(home, given, url), {}
    opened.embedder("lookup")
    wall, cpu = time.monotonic(), time.process_time()
    opened.find_now(questions[:1])
    found["first wall"], found["first cpu"] = time.monotonic() - wall, time.process_time() - cpu
    for name, fusion in {"dense": Fusion(bm25=0), "bm25": Fusion(dense=0), "fused": Fusion()}.items():
        opened.close()
        opened.fusion = fusion
        opened.find_now(questions[:1])
        times = [timed(opened, question) for question in questions]
        for clock, each in zip(("wall", "cpu"), zip(*times, strict=True), strict=True):
            found[f"{name} {clock} p50"] = statistics.median(each)
            found[f"{name} {clock} p95"] = sorted(each)[int(len(each) * 0.95)]
    if opened.warnings:
        raise SystemExit(opened.warnings[0])
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found | recall(opened, questions)


def timed(opened: Collection, question: Question) -> tuple[float, float]:
    """Milliseconds of the wall and of the processor, all threads together."""
    wall, cpu = time.monotonic(), time.process_time()
    opened.find_now([question])
    return (time.monotonic() - wall) * 1000, (time.process_time() - cpu) * 1000


def recall(opened: Collection, questions: Sequence[Question]) -> dict[str, float]:
    """Of the nearest vectors, the share that Chroma finds when it is asked as the program asks; of the passages of a whole
    search, the share that a search with every vector compared gives, too; milliseconds that comparing takes, memory after
    it."""
    generation = opened.generation()
    asked = opened.embedder("lookup").queries([question.text for question in questions])
    with closing(Catalog.open(generations.catalog_in(generation))) as catalog:
        mirror = Mirror(catalog, opened.url(catalog))
        with mirror.reading():
            ours = mirror.query(asked, DEPTH)
        mirror.close()
        exact = BruteForce(catalog)
        best = exact.nearest(asked, DEPTH)
        started = time.process_time()
        for at in range(3):
            exact.nearest(asked[at : at + 1], DEPTH)
        took = (time.process_time() - started) / 3 * 1000
    passages = opened.find_now(questions)
    with chroma_alone(generation):
        compared = opened.find_now(questions)
    return {
        **{f"recall@{k}": statistics.mean(shared(a[:k], b[:k]) for a, b in zip(ours, best, strict=True)) for k in (1, 10, 100)},
        "same": statistics.mean(
            shared([(hit.passage.chunk, 0) for hit in a], [(hit.passage.chunk, 0) for hit in b])
            for a, b in zip(passages, compared, strict=True)
        ),
        "exact": took,
        "exact memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def shared(ours: Sequence[tuple[str, float]], best: Sequence[tuple[str, float]]) -> float:
    """Share of the keys of ``best`` that are among ``ours``."""
    return len({key for key, _ in ours} & {key for key, _ in best}) / len(best)


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
        step, home, given, size, url, queries = sys.argv[2:]
        if step == "write":
            print(json.dumps(write(Path(home), Path(given), int(size), url or None)))
        else:
            print(json.dumps(search(Path(home), Path(given), url or None, int(queries))))
        return
    options = harness.parser(__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--sizes", default="1000,10000,100000,200000")
    options.add_argument("--queries", type=int, default=100)
    options.add_argument("--chroma", default="")
    options.add_argument("--out", type=Path)
    told = options.parse_args()
    lines = [
        f"`python benchmarks/scale.py FOLDER --work WORK --sizes {told.sizes} --queries {told.queries}`,"
        f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start. Times are of a query, k = 10, p50 / p95.",
        "",
        "| chunks | real vectors | dense, CPU ms | BM25, CPU ms | fused, CPU ms | fused, wall ms | exact dense, CPU ms |"
        " recall@1 | recall@10 | recall@100 | same passages | first query, wall s | CPU s | catalog CPU s |"
        " Chroma CPU s | words CPU s | chunks/CPU s | MiB writing | MiB searching | MiB comparing | MiB catalog | MiB vectors |",
        "|---:" * 22 + "|",
    ]
    for count in map(int, told.sizes.split(",")):
        lines.append(row(count, told.chroma, told.queries, told.folder, told.work / str(count)))
        print(lines[-1], file=sys.stderr, flush=True)
        if told.out:
            harness.write(told.out, "Search by size", "\n".join(lines))
    print("\n".join(lines))


def written(folder: Path, given: Path, size: int, url: str) -> dict[str, float]:
    """What writing costs, or has cost the run that made ``folder``."""
    figures = folder / "written.json"
    if not figures.exists():
        folder.mkdir(parents=True, exist_ok=True)
        real = vectors(given / "vectors.f32")[:size]
        if not (given / f"grown-{size}.f32").exists():
            (given / f"grown-{size}.f32").write_bytes(grown(real, size).tobytes())
        figures.write_text(json.dumps(apart("write", folder, given, size, url, 0) | {"real": len(real)}), encoding="utf-8")
    return dict(json.loads(figures.read_text(encoding="utf-8")))


def row(size: int, url: str, queries: int, given: Path, folder: Path) -> str:
    wrote = written(folder, given, size, url)
    read = apart("search", folder, given, size, url, queries)
    sizes = maintenance.status(open_it(folder, given, url or None), thorough=False).bytes
    times = [
        f"{read[f'{kind} p50']:.1f} / {read[f'{kind} p95']:.1f}" for kind in ("dense cpu", "bm25 cpu", "fused cpu", "fused wall")
    ]
    total = sum(wrote[name] for name in WRITTEN)
    cells = [f"{size:,}", f"{wrote['real']:,}", *times, f"{read['exact']:.0f}"]
    cells += [f"{read[name]:.3f}" for name in ("recall@1", "recall@10", "recall@100", "same")]
    cells += [f"{read['first wall']:.1f}", f"{read['first cpu']:.1f}", *(f"{wrote[name]:.0f}" for name in WRITTEN)]
    cells += [f"{size / total:.0f}", f"{wrote['memory']:.0f}", f"{read['memory']:.0f}", f"{read['exact memory']:.0f}"]
    return f"| {' | '.join([*cells, *(f'{sizes[name] / 2**20:.0f}' for name in ('catalog', 'vectors'))])} |"


if __name__ == "__main__":
    main()
