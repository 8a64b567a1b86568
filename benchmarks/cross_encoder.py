"""Measures a re-ranker of `selfrag train reranker` over the fused search, and the document's lead as context of code.

    python benchmarks/cross_encoder.py DATA --work FOLDER --reranker FILE [--corpus wikipedia|squad|code] [--every N]

The work folder is that of benchmarks/retrieval.py. ``code`` are the chunks and questions of dev/contextual_code.json.gz, searched
in memory. Weights of the re-ranker are compared on the questions with even numbers and reported on the odd ones, too.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import harness
import numpy as np
from corpus import first_ranks, intervals, measures, squad, wikipedia
from numpy.typing import NDArray
from retrieval import indexed

from selfrag.index.embedders import open_embedder
from selfrag.index.rerankers import open_reranker
from selfrag.index.search import fulltext
from selfrag.index.search.hybrid import Fusion, Hit, Question, fuse
from selfrag.index.search.rerank import DEPTH, rerank
from selfrag.types import Passage

SHOWN = 60
Found = list[list[Hit]]
Gold = tuple[frozenset[int], ...]


def code(data: Path, lead: int) -> tuple[list[str], Found, Gold]:
    """Questions, hits (their source is the chunk's number) and gold chunks; ``lead`` characters of the document stand before each
    chunk, in what is embedded and matched."""
    with gzip.open(data / "dev" / "contextual_code.json.gz", "rt", encoding="utf-8") as file:
        given = json.load(file)
    chunks, questions = given["chunks"], [row["query"] for row in given["queries"]]
    number = {chunk["id"]: at for at, chunk in enumerate(chunks)}
    leads = [" ".join(given["documents"][chunk["doc"]].split())[:lead] for chunk in chunks]
    embedder = open_embedder()
    texts = [f"{one}\n{chunk['text']}" if one else chunk["text"] for one, chunk in zip(leads, chunks, strict=True)]
    vectors = embedder.documents(texts)
    similarities = embedder.queries(questions) @ vectors.T
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE words USING fts5(head, body, tokenize = 'porter unicode61 remove_diacritics 2')")
    rows = [(at, fulltext.words(leads[at]), fulltext.words(chunk["text"])) for at, chunk in enumerate(chunks)]
    db.executemany("INSERT INTO words(rowid, head, body) VALUES (?, ?, ?)", rows)
    scored = "SELECT rowid, bm25(words, 0.5, 1.0) AS cost FROM words WHERE words MATCH ? ORDER BY cost LIMIT 100"
    found: Found = []
    for at, question in enumerate(questions):
        dense = [(str(each), float(similarities[at, each])) for each in np.argsort(-similarities[at])[:100]]
        bm25 = [(str(each), -cost) for each, cost in db.execute(scored, (" OR ".join(fulltext.terms(question)),))]
        fused = sorted(fuse(Fusion(), dense, bm25).items(), key=lambda pair: -pair[1])[:SHOWN]
        found.append([Hit(Passage(key, "", chunks[int(key)]["text"], key, score=score), None, None) for key, score in fused])
    return questions, found, tuple(frozenset(number[each] for each in row["gold"]) for row in given["queries"])


def documents(data: Path, name: str, work: Path) -> tuple[list[str], Found, Gold]:
    """The same for the files of a corpus; the source of a hit is the document's number."""
    corpus = {"wikipedia": wikipedia, "squad": squad}[name](data)
    collection, numbers = indexed(corpus, name, "headings", work)
    found = collection.find_now([Question(question, SHOWN) for question in corpus.questions])
    collection.close()
    named = [
        [Hit(Passage(**{**_fields(hit.passage), "source": str(numbers[hit.passage.source])}), None, None) for hit in hits]
        for hits in found
    ]
    return list(corpus.questions), named, corpus.gold


def _fields(passage: Passage) -> dict[str, object]:
    return {"chunk": passage.chunk, "title": passage.title, "text": passage.text, "score": passage.score}


def ranks(found: Sequence[Sequence[Hit]], gold: Gold) -> NDArray[np.float64]:
    return first_ranks([list(dict.fromkeys(int(hit.passage.source) for hit in hits)) for hits in found], gold)


def line(name: str, first: NDArray[np.float64], numbers: Sequence[int]) -> str:
    limits, odd = intervals(first), measures(first[[at for at, number in enumerate(numbers) if number % 2]])
    cells = [f"{value:.1f} ({limits[key][0]:.1f}–{limits[key][1]:.1f})" for key, value in measures(first).items()]
    return f"| {name} | {' | '.join(cells)} | {' / '.join(f'{value:.1f}' for value in odd.values())} |"


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--reranker", required=True)
    parser.add_argument("--corpus", choices=("wikipedia", "squad", "code"), default="wikipedia")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    if options.corpus == "code":
        _, led, gold = code(options.data, 200)
        print(line("fused, 200 characters of the document before the chunk", ranks(led, gold), range(len(led))))
        questions, found, gold = code(options.data, 0)
    else:
        questions, found, gold = documents(options.data, options.corpus, options.work)
    numbers = range(0, len(questions), options.every)
    gold = tuple(gold[at] for at in numbers)
    print(line("fused", ranks([found[at] for at in numbers], gold), numbers))
    reranker = open_reranker(options.reranker)
    if reranker is None:
        return
    started = time.process_time()
    read = {at: rerank(reranker, questions[at], found[at][:DEPTH], 1.0) for at in numbers}
    print(f"{(time.process_time() - started) / len(numbers):.2f} CPU s a question")
    for weight in (0.1, 0.2, 0.3, 0.5, 0.7, 1.0):
        ordered = [[*weighed(found[at][:DEPTH], read[at], weight), *found[at][DEPTH:]] for at in numbers]
        print(line(f"re-ranker, weight {weight:g}", ranks(ordered, gold), numbers))


class _Said:
    """A re-ranker that repeats what another one said."""

    name = "said"

    def __init__(self, scores: Sequence[float]) -> None:
        self._scores = np.asarray(scores, dtype=np.float32)

    def scores(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:  # noqa: ARG002
        return self._scores

    def close(self) -> None:
        """Nothing is held open."""


def weighed(hits: Sequence[Hit], read: Sequence[Hit], weight: float) -> list[Hit]:
    """``hits`` in the order that ``weight`` gives, from the scores of ``read``."""
    said = {hit.passage.chunk: hit.rerank or 0.0 for hit in read}
    return rerank(_Said([said[hit.passage.chunk] for hit in hits]), "", hits, weight)


if __name__ == "__main__":
    main()
