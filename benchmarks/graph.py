"""Chooses the constants of the graph of names (selfrag/index/graph.py), and measures what it costs.

    python benchmarks/graph.py DATA --work FOLDER [--out benchmarks/results/graph.md]

The collections are those of benchmarks/retrieval.py, which must have made them in FOLDER. Each constant in turn takes the value
that is best on the questions with even numbers of all sets, those with one hop among them; the odd ones are reported. Best: the
mean over the sets of three shares, a gold document first, and a gold document (with several hops: all of them) among 5 and 10.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import harness
import numpy as np
from corpus import HOPS
from numpy.typing import NDArray
from retrieval import NAMES, SETS, indexed, one, scored

from selfrag.evaluation.tables import markdown_table
from selfrag.index import graph
from selfrag.index.collection import Collection
from selfrag.index.search.hybrid import Question, Searcher, fuse

CHOICES: dict[str, Sequence[float]] = {
    "KEPT": (1, 2, 3, 4),
    "WEIGHT": (0.5, 1.0, 2.0, 4.0),
    "SEEDS": (1, 2, 3, 5, 8),
    "GOES_ON": (0.5, 0.7, 0.85),
    "COMMON": (30, 60, 120),
}
SHARES = 3


@dataclass(frozen=True, slots=True)
class Asked:
    question: Question
    scores: dict[str, float]
    order: list[str]
    gold: frozenset[int]


@dataclass(frozen=True, slots=True)
class Part:
    """A set of questions, searched without the graph, and the document of each chunk."""

    name: str
    searcher: Searcher
    documents: dict[str, int]
    asked: list[Asked]


def prepared(name: str, data: Path, work: Path) -> tuple[Part, Collection]:
    corpus, key = one(name, data)
    collection, numbers = indexed(corpus, key, "none" if name == "code" else "headings", work)
    searcher = collection._current()
    asked = [Question(question, 10, graph="auto") for question in corpus.questions]
    vectors = searcher._vectors(asked)
    rows = []
    with searcher.mirror.reading(), searcher.catalog.transaction() as db:
        sources = dict(db.execute("SELECT key, path FROM chunks JOIN sources ON sources.id = chunks.source"))
        for question, dense, gold in zip(asked, searcher._dense(vectors, [None] * len(asked)), corpus.gold, strict=True):
            scores = fuse(searcher.fusion, dense, searcher._bm25(question, None))
            rows.append(Asked(question, scores, sorted(scores, key=lambda key: (-scores[key], key)), gold))
    return Part(name, searcher, {key: numbers[path] for key, path in sources.items()}, rows), collection


def measured(part: Part, half: int, walk: bool = True) -> NDArray[np.float64]:
    """For each question of a half the percentages of `retrieval.scored`."""
    found = []
    with part.searcher.catalog.transaction():
        for each in part.asked[half::2]:
            order = each.order
            if walk:
                scores = part.searcher._walked(each.question, each.scores, order, None)
                order = sorted(scores, key=lambda key: (-scores[key], key))
            ranked = list(dict.fromkeys(part.documents[key] for key in order[:30]))
            found.append(scored(ranked, each.gold, part.name in HOPS))
    return np.array(found)


def quality(parts: Sequence[Part], half: int, walk: bool = True) -> float:
    return float(np.mean([measured(part, half, walk).mean(axis=0)[:SHARES].mean() for part in parts]))


def chosen(parts: Sequence[Part]) -> list[list[str]]:
    """Sets each constant to its best value; the lines of the table."""
    lines = []
    for name, values in CHOICES.items():
        tried = {}
        for value in values:
            setattr(graph, name, value)
            tried[value] = quality(parts, 0)
        best = max(tried, key=lambda value: tried[value])
        setattr(graph, name, best)
        told = ", ".join(f"{value:g}: {score:.2f}" for value, score in tried.items())
        lines.append([name, f"**{best:g}**", told, f"{quality(parts, 1):.2f}"])
        print(lines[-1], flush=True)
    return lines


def size(collection: Collection) -> str:
    """Bytes of the graph beside those of the catalog, and the time to make it of the stored chunks."""
    with collection.opened(collection.generation(), writable=True) as catalog, catalog.transaction() as db:
        parts = dict(db.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
        chunks = catalog.counts().chunks
        names, mentions = (db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("names", "mentions"))
        db.execute("DROP TABLE mentions")
        db.execute("DROP TABLE names")
        started = time.process_time()
        graph.fill(db)
        took = time.process_time() - started
    ours = sum(each for name, each in parts.items() if "mentions" in name or "names" in name)
    return (
        f"{names:,} names and {mentions:,} mentions of {chunks:,} chunks: {ours / 2**20:.1f} of the catalog's "
        f"{sum(parts.values()) / 2**20:.1f} MiB, {took:.1f} CPU s to make ({1000 * took / chunks:.2f} ms a chunk)."
    )


def main() -> None:
    parser = harness.parser(__doc__, "graph.md")
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    made = [prepared(name, given.data, given.work.resolve()) for name in SETS]
    parts = [part for part, _ in made]
    table = chosen(parts)
    before = [f"{quality(parts, half, walk=False):.2f}" for half in (0, 1)]
    halves = []
    for part in parts:
        cells = [
            " / ".join(f"{value:.1f}" for value in measured(part, half, walk).mean(axis=0)[:SHARES])
            for half in (0, 1)
            for walk in (False, True)
        ]
        halves.append([f"{NAMES[part.name]}, {len(part.asked)}", *cells])
    sized = size(made[SETS.index("2wiki_hops")][1])
    harness.write(
        given.out,
        "Several hops: the graph of names",
        f"Without the graph: {before[0]} on the even half, {before[1]} on the odd half.",
        markdown_table(["constant", "chosen", "even half, by value", "odd half, with those chosen so far"], table),
        "First / among 5 / among 10, percent:",
        markdown_table(["questions", "even: without", "even: graph", "odd: without", "odd: graph"], halves),
        sized,
    )


if __name__ == "__main__":
    main()
