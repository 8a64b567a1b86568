"""Both supporting passages of questions with several hops: hybrid search, and the same with the graph of names.

    python benchmarks/graph.py DATA --work FOLDER [--counts 160,100,50] [--out benchmarks/results/graph.md]

Documents are the pooled paragraphs, gold and distracting, of the first questions of 2WikiMultihop, HotpotQA and MuSiQue in
DATA/train, each a Markdown file below FOLDER. A question counts if all its supporting paragraphs are among the first 5 or 10
documents. The constants of the graph were chosen on the questions with even numbers; the odd ones are reported apart.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import numpy as np
from corpus import Corpus, read_rows
from numpy.typing import NDArray

from selfrag.evaluation import intervals
from selfrag.evaluation.tables import markdown_table
from selfrag.index import graph
from selfrag.index.collection import Collection
from selfrag.index.search.hybrid import Fusion, Question
from selfrag.types import Graph

SETS = ("2wiki_hops", "hotpotqa_100", "musique_100")


@dataclass(frozen=True, slots=True)
class Hops:
    corpus: Corpus
    sets: tuple[str, ...]


def hops(data: Path, counts: list[int]) -> Hops:
    index: dict[tuple[str, str], int] = {}
    questions: list[tuple[str, str, frozenset[int]]] = []
    for name, count in zip(SETS, counts, strict=True):
        for row in list(read_rows(data / "train" / f"{name}.jsonl.gz"))[:count]:
            titled = [(title, text, index.setdefault((title, text), len(index)), gold) for title, text, gold in paragraphs(row)]
            questions.append((name, row["question"], frozenset(number for *_, number, gold in titled if gold)))
    corpus = Corpus(
        "several hops",
        tuple(title for title, _ in index),
        tuple(text for _, text in index),
        tuple(question for _, question, _ in questions),
        tuple(gold for *_, gold in questions),
    )
    return Hops(corpus, tuple(name for name, *_ in questions))


def paragraphs(row: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Title, text and whether it supports the answer."""
    if "paragraphs" in row:
        return [(each["title"], each["paragraph_text"].strip(), each["is_supporting"]) for each in row["paragraphs"]]
    context, facts = (json.loads(row[key]) if isinstance(row[key], str) else row[key] for key in ("context", "supporting_facts"))
    gold = {title for title, _ in facts}
    return [(title, " ".join(each.strip() for each in sentences), title in gold) for title, sentences in context]


def main() -> None:
    parser = harness.parser(__doc__, "graph.md")
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--counts", default="160,100,50")
    given = parser.parse_args()
    found = hops(given.data, [int(each) for each in given.counts.split(",")])
    folder = given.work / "documents"
    if not folder.exists():
        folder.mkdir(parents=True)
        found.corpus.write(folder)
    collection = Collection(given.work / "home", "hops")
    print(collection.sync([str(folder)]), flush=True)
    documents = {str(path): int(path.stem.rsplit("-", 1)[1]) for path in folder.iterdir()}
    ways: dict[str, tuple[Fusion, Graph]] = {
        "dense": (Fusion(bm25=0), "off"),
        "BM25": (Fusion(dense=0), "off"),
        "fused": (Fusion(), "off"),
        "fused + graph": (Fusion(), "on"),
        "fused + graph auto": (Fusion(), "auto"),
    }
    found_by: dict[str, NDArray[np.float64]] = {}
    lines = []
    sets = np.array(found.sets)
    odd = np.arange(len(sets)) % 2 == 1
    for name, (fusion, mode) in ways.items():
        collection.fusion = fusion
        asked = [Question(question, 20, graph=mode) for question in found.corpus.questions]
        times, rows = [], []
        for question, gold in zip(asked, found.corpus.gold, strict=True):
            started = time.process_time()
            (hits,) = collection.find_now([question])
            times.append((time.process_time() - started) * 1000)
            ranked = list(dict.fromkeys(documents[hit.passage.source] for hit in hits))
            rows.append([float(gold <= set(ranked[:k])) for k in (5, 10)])
        found_by[name] = np.array(rows)
        cells = [told(found_by[name][sets == each]) for each in SETS] + [told(found_by[name]), told(found_by[name][odd])]
        lines.append([name, *cells, f"{np.quantile(times, 0.5):.0f} / {np.quantile(times, 0.95):.0f}"])
        print(lines[-1], flush=True)
    head = ["way", *(f"{each}, {(sets == each).sum()}" for each in SETS), f"all, {len(sets)}", f"odd half, {odd.sum()}", "CPU ms"]
    harness.write(
        given.out,
        "Several hops",
        f"{len(found.corpus.titles):,} documents. Percent of questions with all supporting paragraphs in the first 5 / 10, 95 % "
        "bootstrap intervals. CPU ms p50 / p95 of a search, the question's embedding included.",
        markdown_table(head, lines),
        f"Graph against fused, paired: {difference(found_by, odd, 'odd half')}; {difference(found_by, ~odd, 'even half')}.",
        size(collection),
        f"Seeds {graph.SEEDS}, names in at most {graph.COMMON} chunks, the question's names {graph.NAMED}, a further step "
        f"{graph.GOES_ON}, weight {graph.WEIGHT}.",
    )


def told(rows: NDArray[np.float64]) -> str:
    limits = intervals.ratios(rows * 100, np.ones_like(rows))
    return " / ".join(f"{each.value or 0:.1f} ({each.low or 0:.0f}–{each.high or 0:.0f})" for each in limits)


def difference(found: dict[str, NDArray[np.float64]], mask: NDArray[np.bool_], label: str) -> str:
    ones = np.ones(int(mask.sum()))
    shown = []
    for at, k in enumerate((5, 10)):
        each = intervals.paired(100 * found["fused"][mask, at], ones, 100 * found["fused + graph"][mask, at], ones)
        shown.append(f"@{k} {each.value or 0:+.1f} ({each.low or 0:+.1f} to {each.high or 0:+.1f})")
    return f"{label} {', '.join(shown)}"


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


if __name__ == "__main__":
    main()
