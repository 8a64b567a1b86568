"""Chooses the constants of the graph of names (selfrag/index/graph.py), and measures what it costs.

    python benchmarks/graph.py DATA --work FOLDER [--themes | --triples MODEL [--questions N]] [--out benchmarks/results/graph.md]

The collections are those of benchmarks/retrieval.py, which must have made them in FOLDER. Each constant in turn takes the value
that is best on the questions with even numbers of all sets, those with one hop among them; the odd ones are reported. Best: the
mean over the sets of three shares, a gold document first, and a gold document (with several hops: all of them) among 5 and 10.

--themes tries a second level above the names and prints a table instead: nodes that join all chunks of one theme, which the walk
comes to as it comes to names. A theme is a title or a heading, however many chunks are about it; or a community of chunks that
share names, found by label propagation (Raghavan et al. 2007).

--triples indexes the paragraphs of the first N questions of 2WikiMultihop with `--graph llm` and prints a table instead: names by
rule and by the model MODEL, time, and what the search finds without the graph, with it, and with the model's names in it. The
same command goes on where it was interrupted.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import harness
import numpy as np
from corpus import HOPS, hops
from numpy.typing import NDArray
from retrieval import NAMES, SETS, SHOWN, indexed, one, scored

from selfrag.agent import find_instruct
from selfrag.config import settings
from selfrag.evaluation import intervals
from selfrag.evaluation.tables import markdown_table
from selfrag.index import graph
from selfrag.index.collection import Collection
from selfrag.index.search.hybrid import Question, Searcher, fuse
from selfrag.index.sync.annotate import Annotator, InstructModel
from selfrag.index.sync.pipeline import Options

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


# --- themes --------------------------------------------------------------------------------------------------------------------

LARGEST = 300
"""A theme of more chunks leads nowhere in particular."""
Themes = dict[int, list[int]]
"""The themes of each chunk."""


def headings(db: sqlite3.Connection) -> Themes:
    """Titles and headings as themes, those that too many chunks have left out."""
    found: Themes = {}
    query = "SELECT chunk, names.id, names.chunks FROM mentions JOIN names ON names.id = mentions.name WHERE about = 1"
    rows = db.execute(query).fetchall()
    sizes = Counter(name for _, name, _ in rows)
    for chunk, name, mentioned in rows:
        if mentioned > graph.COMMON and 2 <= sizes[name] <= LARGEST:  # rarer ones are nodes as it is
            found.setdefault(chunk, []).append(name)
    return found


def communities(db: sqlite3.Connection, rounds: int = 8) -> Themes:
    """Every chunk takes the label that weighs most among the chunks that it shares names with, until none changes."""
    query = (
        "SELECT chunk, names.id, about, chunks FROM mentions JOIN names ON names.id = mentions.name WHERE chunks BETWEEN 2 AND ?"
    )
    held: dict[int, list[tuple[int, float]]] = {}
    holders: dict[int, list[int]] = {}
    for chunk, name, about, shared in db.execute(query, (graph.COMMON,)):
        held.setdefault(chunk, []).append((name, (graph._ABOUT if about else 1.0) / shared))
        holders.setdefault(name, []).append(chunk)
    label = {chunk: chunk for chunk in held}
    order, rng = sorted(held), Random(0)
    for _ in range(rounds):
        rng.shuffle(order)
        changed = 0
        for chunk in order:
            votes: Counter[int] = Counter()
            for name, weight in held[chunk]:
                for other in holders[name]:
                    if other != chunk:
                        votes[label[other]] += weight  # type: ignore[assignment]
            best = max(votes, key=lambda each: (votes[each], -each), default=label[chunk])
            changed += best != label[chunk]
            label[chunk] = best
        if not changed:
            break
    sizes = Counter(label.values())
    return {chunk: [each] for chunk, each in label.items() if 2 <= sizes[each] <= LARGEST}


class Themed:
    """`graph.walk` with themes: each is a node that its chunks are linked with, ``weight`` times as heavily as with a name."""

    def __init__(self, themes: Themes, weight: float) -> None:
        self.themes, self.weight = themes, weight
        self.members: dict[int, list[int]] = {}
        for chunk, each in themes.items():
            for theme in each:
                self.members.setdefault(theme, []).append(chunk)

    def __call__(self, db: sqlite3.Connection, seeds: Mapping[int, float], _: object = None) -> dict[int, float]:
        reached = db.execute(
            "SELECT DISTINCT there.chunk FROM mentions AS here JOIN names ON names.id = here.name"
            " JOIN mentions AS there ON there.name = names.id"
            f" WHERE here.chunk IN (SELECT value FROM json_each(?)) AND names.chunks BETWEEN 2 AND {graph.COMMON}",
            (json.dumps([*seeds]),),
        )
        mates = (chunk for seed in seeds for theme in self.themes.get(seed, ()) for chunk in self.members[theme])
        chunks = sorted({*seeds, *(row[0] for row in reached), *mates})
        edges = db.execute(
            "SELECT chunk, names.id, about, chunks FROM mentions JOIN names ON names.id = mentions.name"
            f" WHERE chunk IN (SELECT value FROM json_each(?)) AND chunks BETWEEN 2 AND {graph.COMMON}",
            (json.dumps(chunks),),
        ).fetchall()
        found = [(chunk, name, (graph._ABOUT if about else 1.0) / shared) for chunk, name, about, shared in edges]
        found += [
            (chunk, -1 - theme, self.weight / len(self.members[theme]))
            for chunk in chunks
            for theme in self.themes.get(chunk, ())
        ]
        if not found:
            return {}
        chunk, name, weight = (np.array(column) for column in zip(*found, strict=True))
        start = np.array([seeds.get(each, 0.0) for each in chunks])
        visits = graph.pagerank(np.searchsorted(chunks, chunk), name, weight, start)
        most = float(visits.max())
        return {each: float(score) / most for each, score in zip(chunks, visits, strict=True) if score > 0} if most else {}


def themed(parts: Sequence[Part]) -> str:
    """The table of both halves without themes, and with each kind and weight of them."""
    plain, lines = graph.walk, []
    for kind, make in (("none", None), ("titles and headings", headings), ("communities", communities)):
        found = {}
        for part in parts if make else ():
            with part.searcher.catalog.transaction() as db:
                found[part.name] = make(db)  # type: ignore[misc]
        for weight in (1.0, 3.0, 10.0) if make else (0.0,):
            cells = []
            for half in (0, 1):
                every = []
                for part in parts:
                    graph.walk = Themed(found[part.name], weight) if make else plain  # type: ignore[assignment]
                    every.append(measured(part, half).mean(axis=0)[:SHARES])
                cells += [f"{np.mean(every):.2f}", " · ".join(f"{each[1]:.1f}" for each in every)]
            lines.append([kind, f"{weight:g}" if make else "", *cells])
            print(lines[-1], flush=True)
    graph.walk = plain
    among = " · ".join(f"{NAMES[part.name].split()[0]}" for part in parts)
    return markdown_table(["themes", "weight", "even half", f"even, among 5: {among}", "odd half", "odd, among 5"], lines)


# --- triples -------------------------------------------------------------------------------------------------------------------


def triples(data: Path, work: Path, model: str, count: int) -> str:
    """The table of one sample without the graph, with the names found by rule, and with those of ``model``."""
    corpus = hops(data, {"2wiki_hops": count})["2wiki_hops"]
    folder = work / f"triples-{count}"
    if not folder.exists():
        folder.mkdir(parents=True)
        corpus.write(folder)
    lines, shares = [], {}
    instruct = InstructModel(model, lambda: find_instruct(settings.load(), model).open(None))
    for kind in ("names", "llm"):
        collection = Collection(work / "home", f"{folder.name}-{kind}")
        extract = Annotator(instruct, "triples") if kind == "llm" else None
        started = time.process_time(), time.perf_counter()
        report = collection.sync([str(folder)], Options(graph=kind, extract=extract))
        cpu, wall = time.process_time() - started[0], time.perf_counter() - started[1]
        with collection.opened(collection.generation()) as catalog:
            names, links = (catalog.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("names", "mentions"))
            joining = catalog.db.execute("SELECT count(*) FROM names WHERE chunks BETWEEN 2 AND ?", (graph.COMMON,)).fetchone()[0]
        told = f"{cpu / report.chunks:.2f} / {wall / report.chunks:.2f}"
        print(kind, report.chunks, "chunks", report.triples, flush=True)
        for way in ("off", "auto", "on") if kind == "names" else ("auto", "on"):
            hits = collection.find_now([Question(question, SHOWN, graph=way) for question in corpus.questions])
            found = [list(dict.fromkeys(_number(hit.passage.source) for hit in each)) for each in hits]
            shares[kind, way] = np.array([scored(each, gold, True) for each, gold in zip(found, corpus.gold, strict=True)])
            one, before = shares[kind, way][:, 1], shares["names", way][:, 1]
            gain = intervals.paired(before, np.ones_like(before), one, np.ones_like(one))
            cells = [f"{value:.1f}" for value in shares[kind, way].mean(axis=0)[:SHARES]]
            against = f"{gain.value:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})" if kind == "llm" else ""
            lines.append([kind, way, *cells, against, f"{names:,}", f"{joining:,}", f"{links:,}", told])
    instruct.close()
    head = [
        "names",
        "--graph",
        "first",
        "all@5",
        "all@10",
        "@5 against rule",
        "names",
        "joining",
        "mentions",
        "CPU / wall s a chunk",
    ]
    return f"{count} questions, {len(corpus.titles):,} paragraphs.\n\n{markdown_table(head, lines)}"


def _number(path: str) -> int:
    """The document that `Corpus.write` wrote to ``path``."""
    return int(Path(path).stem.rsplit("-", 1)[1])


def main() -> None:
    parser = harness.parser(__doc__, "graph.md")
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--themes", action="store_true", help="try a second level, and only print what comes out")
    parser.add_argument("--triples", metavar="MODEL", help="try the names of an instruct model, and only print what comes out")
    parser.add_argument("--questions", type=int, default=15, help="with --triples: so many questions  [15]")
    given = parser.parse_args()
    if given.triples:
        print(triples(given.data, given.work.resolve(), given.triples, given.questions))
        return
    made = [prepared(name, given.data, given.work.resolve()) for name in SETS]
    parts = [part for part, _ in made]
    if given.themes:
        print(themed(parts))
        return
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
