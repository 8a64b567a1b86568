"""Measures retrieval on the real index: dense, BM25 and their fusions, with and without titles and headings.

    python benchmarks/retrieval.py DATA --work FOLDER [--out benchmarks/results/retrieval.json] [--contexts headings none]

DATA is the folder with corpora/, dev/ and train/. Documents are written as Markdown files below the work folder and indexed there
by `Collection.sync`; a second run finds them indexed. Fusions are compared on the questions with even numbers, the choosing half,
and reported on the odd ones, too. A question counts as answered by a passage if its file is one of those marked for the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import harness
import numpy as np
from corpus import Corpus, first_ranks, intervals, measures, squad, wikipedia
from numpy.typing import NDArray

from selfrag.index.collection import Collection
from selfrag.index.search.hybrid import Fusion, Question
from selfrag.index.sync.pipeline import Options
from selfrag.index.vectors.brute_force import Exact

DEPTH = 100
Scored = list[list[tuple[int, float]]]
"""For each question the documents of its candidates with their scores, best first."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to rank: its name, and for each question the documents in order."""

    name: str
    ranked: list[list[int]]


def indexed(corpus: Corpus, key: str, context: str, work: Path) -> tuple[Collection, dict[str, int]]:
    """The collection of a corpus, brought up to date, and the document that each source path is."""
    folder = work / key
    folder.mkdir(parents=True, exist_ok=True)
    names = corpus.write(folder) if not any(folder.iterdir()) else sorted(path.name for path in folder.iterdir())
    collection = Collection(work / "home", f"{key}-{context}")
    report = collection.sync([str(folder)], Options(context=context))
    print(f"{collection.name}: {report.chunks} chunks, {report.seconds:.0f} s", flush=True)
    return collection, {str(folder / name): int(name.rsplit("-", 1)[1].removesuffix(".md")) for name in names}


def candidates(collection: Collection, documents: dict[str, int], questions: tuple[str, ...], fusion: Fusion) -> Scored:
    """What one side of the searcher finds (the other's weight is 0), a document once, by its best passage."""
    searcher = replace(collection._current(), fusion=fusion)
    asked = [Question(question, DEPTH) for question in questions]
    vectors = searcher._vectors(asked) if fusion.dense else np.zeros((0, 0), dtype=np.float32)
    with searcher.catalog.transaction() as db:
        sources = dict(db.execute("SELECT key, path FROM chunks JOIN sources ON sources.id = chunks.source"))
        found = (
            Exact(searcher.catalog).nearest(vectors, DEPTH) if fusion.dense else [searcher._bm25(each, None) for each in asked]
        )
    rows = []
    for hits in found:
        best: dict[int, float] = {}
        for key, score in hits:
            best.setdefault(documents[sources[key]], score)
        rows.append(list(best.items()))
    return rows


def only(scored: Scored) -> list[list[int]]:
    return [[document for document, _ in row] for row in scored]


def reciprocal(dense: Scored, bm25: Scored, k: int, weight: float) -> list[list[int]]:
    """Reciprocal rank fusion, the dense side ``weight`` times as heavy."""
    fused = []
    for one, other in zip(dense, bm25, strict=True):
        scores: dict[int, float] = {}
        for side, factor in ((one, weight), (other, 1.0)):
            for rank, (document, _) in enumerate(side, 1):
                scores[document] = scores.get(document, 0.0) + factor / (k + rank)
        fused.append(sorted(scores, key=lambda document: -scores[document]))
    return fused


def convex(dense: Scored, bm25: Scored, share: float) -> list[list[int]]:
    """Weighted sum of scores (Bruch et al. 2023): cosines between the lowest and the highest, BM25 over its highest candidate."""
    fused = []
    for one, other in zip(dense, bm25, strict=True):
        scores: dict[int, float] = {}
        for side, factor, low in ((one, share, one[-1][1] if one else 0.0), (other, 1 - share, 0.0)):
            span = side[0][1] - low if side else 0.0
            for document, score in side:
                scores[document] = scores.get(document, 0.0) + factor * ((score - low) / span if span > 0 else 1.0)
        fused.append(sorted(scores, key=lambda document: -scores[document]))
    return fused


def fusions(dense: Scored, bm25: Scored) -> Iterator[Method]:
    for k, weight in product((2, 5, 10, 20, 60), (0.5, 1.0, 2.0, 3.0)):
        yield Method(f"RRF k={k}, dense ×{weight:g}", reciprocal(dense, bm25, k, weight))
    for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        yield Method(f"convex, dense {share:g}", convex(dense, bm25, share))


def quality(ranks: NDArray[np.float64]) -> float:
    """What a fusion is chosen by: the mean of recall@1, @5, @10."""
    found = measures(ranks)
    return (found["recall@1"] + found["recall@5"] + found["recall@10"]) / 3


def row(name: str, ranks: NDArray[np.float64]) -> dict[str, object]:
    limits = intervals(ranks)
    odd = measures(ranks[1::2])
    found = measures(ranks)
    return {
        "method": name,
        **{key: [round(found[key], 1), *(round(limit, 1) for limit in limits[key])] for key in found},
        "odd half": {key: round(value, 1) for key, value in odd.items()},
    }


def study(corpus: Corpus, key: str, work: Path, contexts: list[str]) -> dict[str, object]:
    """The table of one corpus."""
    table = []
    chosen: dict[str, object] = {}
    for context in contexts:
        collection, documents = indexed(corpus, key, context, work)
        suffix = "" if context == "headings" else ", text alone"
        dense = candidates(collection, documents, corpus.questions, Fusion(dense=1, bm25=0, depth=DEPTH))
        sides = {
            head: candidates(collection, documents, corpus.questions, Fusion(dense=0, bm25=1, depth=DEPTH, head=head, body=1.0))
            for head in ((0.5, 1.0, 2.0, 4.0) if context == "headings" else (1.0,))
        }
        table.append(row(f"dense{suffix}", first_ranks(only(dense), corpus.gold)))
        table += [row(f"BM25, head ×{head:g}{suffix}", first_ranks(only(bm25), corpus.gold)) for head, bm25 in sides.items()]
        methods = {
            (head, method.name): first_ranks(method.ranked, corpus.gold)
            for head, bm25 in sides.items()
            for method in fusions(dense, bm25)
        }
        best = sorted(methods, key=lambda name: -quality(methods[name][0::2]))
        shown = dict.fromkeys(
            [*best[:2], (1.0, "RRF k=60, dense ×1"), (0.5, "convex, dense 0.5")] if context == "headings" else best[:2]
        )
        table += [row(f"{name}, head ×{head:g}{suffix}", methods[head, name]) for head, name in shown]
        chosen[context] = {
            f"{name}, head ×{head:g}": [round(quality(methods[head, name][half::2]), 2) for half in (0, 1)] for head, name in best
        }
        table.append(row(f"as shipped{suffix}", shipped(collection, documents, corpus)))
        collection.close()
    return {
        "corpus": corpus.name,
        "documents": len(corpus.titles),
        "questions": len(corpus.questions),
        "table": table,
        "chosen": chosen,
    }


def shipped(collection: Collection, documents: dict[str, int], corpus: Corpus) -> NDArray[np.float64]:
    """Ranks among the first 10 passages as the program returns them, with its defaults."""
    found = collection.find_now([Question(question, 10) for question in corpus.questions])
    ranked = [list(dict.fromkeys(documents[hit.passage.source] for hit in hits)) for hits in found]
    return first_ranks(ranked, corpus.gold)


def together(studies: list[dict[str, object]], context: str = "headings") -> list[str]:
    """Fusions by the mean of their quality over the even halves of all collections, best first, with that over the odd ones."""
    by_study: list[dict[str, list[float]]] = [each["chosen"][context] for each in studies]  # type: ignore[index]
    means = {name: np.mean([scores[name] for scores in by_study], axis=0) for name in by_study[0]}
    best = sorted(means, key=lambda name: -means[name][0])
    shown = dict.fromkeys([*best[:5], "RRF k=60, dense ×1, head ×1"])
    lines = [
        "## Fusions over all collections: mean of recall@1, @5, @10",
        "",
        "| fusion | even half | odd half |",
        "|---|---|---|",
    ]
    return [*lines, *(f"| {name} | {means[name][0]:.2f} | {means[name][1]:.2f} |" for name in shown), ""]


def markdown(studies: list[dict[str, object]]) -> str:
    lines = ["# Retrieval", "", (__doc__ or "").split("\n", maxsplit=1)[0], ""]
    for each in studies:
        lines += [f"## {each['corpus']}: {each['documents']:,} documents, {each['questions']} questions", ""]
        lines += [
            "| method | recall@1 | recall@5 | recall@10 | MRR | odd half: @1 / @5 / @10 / MRR |",
            "|---|---|---|---|---|---|",
        ]
        for line in each["table"]:  # type: ignore[attr-defined]
            cells = [f"{line[key][0]} ({line[key][1]}–{line[key][2]})" for key in ("recall@1", "recall@5", "recall@10", "mrr")]
            lines.append(
                f"| {line['method']} | {' | '.join(cells)} | {' / '.join(str(value) for value in line['odd half'].values())} |"
            )
        lines.append("")
    if all("headings" in each["chosen"] for each in studies):  # type: ignore[operator]
        lines += together(studies)
    return "\n".join(lines)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--corpora", nargs="*", default=["wikipedia", "squad"])
    parser.add_argument("--contexts", nargs="*", default=["headings", "none"])
    options = parser.parse_args()
    makers = {"wikipedia": wikipedia, "squad": squad}
    studies = [study(makers[name](options.data), name, options.work, options.contexts) for name in options.corpora]
    text = markdown(studies)
    print(text)
    if options.out:
        harness.write_json(options.out, studies)
        options.out.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
