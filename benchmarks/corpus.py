"""Collections and questions that benchmarks share: documents as (title, text), questions with the indices of their documents."""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrag.evaluation.intervals import ratios


@dataclass(frozen=True, slots=True)
class Corpus:
    """``gold[i]`` are the indices of the documents that hold the answer to ``questions[i]``."""

    name: str
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    questions: tuple[str, ...]
    gold: tuple[frozenset[int], ...]

    def write(self, folder: Path) -> list[str]:
        """Writes each document as a Markdown file, one without a title as text; returns the files' names by index."""
        names = [f"{_slug(title)}-{index}.{'md' if title else 'txt'}" for index, title in enumerate(self.titles)]
        for name, title, text in zip(names, self.titles, self.texts, strict=True):
            (folder / name).write_text(f"# {title}\n\n{text}\n" if title else text, encoding="utf-8")
        return names


def wikipedia(data: Path) -> Corpus:
    """Natural Questions over 10,033 Wikipedia summaries. A document counts as gold if an accepted answer occurs in it."""
    rows = list(read_rows(data / "corpora" / "wikipedia_vital_10k.jsonl.gz"))
    questions = list(read_rows(data / "dev" / "nq_wikipedia_vital.jsonl.gz"))
    index = {row["title"]: number for number, row in enumerate(rows)}
    return Corpus(
        "Natural Questions over Wikipedia summaries",
        tuple(row["title"] for row in rows),
        tuple(row["text"] for row in rows),
        tuple(row["question"] for row in questions),
        tuple(frozenset(index[title] for title in row["gold_titles"]) for row in questions),
    )


def squad(data: Path) -> Corpus:
    """Answerable questions of SQuAD 2.0's development part over all its paragraphs, those of the training part included."""
    development = list(read_rows(data / "dev" / "squad2_halfdev.jsonl.gz"))
    rows = [*development, *read_rows(data / "train" / "squad2_halfdev.jsonl.gz")]
    titles = {row["context"]: row["title"] for row in rows}
    index = {context: number for number, context in enumerate(titles)}
    asked = [row for row in development if not row["unanswerable"]]
    return Corpus(
        "SQuAD 2.0 paragraphs",
        tuple(title.replace("_", " ") for title in titles.values()),
        tuple(titles),
        tuple(row["question"] for row in asked),
        tuple(frozenset([index[row["context"]]]) for row in asked),
    )


def code(data: Path, lead: int = 0) -> Corpus:
    """Chunks of code, each a document, and questions on them; ``lead`` characters of its document stand before each chunk."""
    with gzip.open(data / "dev" / "contextual_code.json.gz", "rt", encoding="utf-8") as file:
        given = json.load(file)
    chunks = given["chunks"]
    number = {chunk["id"]: at for at, chunk in enumerate(chunks)}
    leads = [" ".join(given["documents"][chunk["doc"]].split())[:lead] for chunk in chunks]
    return Corpus(
        "Contextual code",
        ("",) * len(chunks),
        tuple(f"{one}\n{chunk['text']}" if one else chunk["text"] for one, chunk in zip(leads, chunks, strict=True)),
        tuple(row["query"] for row in given["queries"]),
        tuple(frozenset(number[each] for each in row["gold"]) for row in given["queries"]),
    )


HOPS = {"2wiki_hops": 250, "hotpotqa_100": 100, "musique_100": 100}
"""Files of questions with several hops, and how many of each are asked."""


def hops(data: Path, counts: Mapping[str, int] = HOPS) -> dict[str, Corpus]:
    """2WikiMultihop, HotpotQA and MuSiQue, each over the pooled paragraphs of all ``counts``; gold are all that support."""
    index: dict[tuple[str, str], int] = {}
    found: dict[str, list[tuple[str, frozenset[int]]]] = {}
    for name, count in counts.items():
        for row in islice(read_rows(data / "train" / f"{name}.jsonl.gz"), count):
            numbers = [(index.setdefault((title, text), len(index)), gold) for title, text, gold in _paragraphs(row)]
            found.setdefault(name, []).append((row["question"], frozenset(number for number, gold in numbers if gold)))
    titles, texts = zip(*index, strict=True)
    return {name: Corpus(name, titles, texts, *zip(*asked, strict=True)) for name, asked in found.items()}


def _paragraphs(row: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Title, text and whether it supports the answer."""
    if "paragraphs" in row:
        return [(each["title"], each["paragraph_text"].strip(), each["is_supporting"]) for each in row["paragraphs"]]
    context, facts = (json.loads(row[key]) if isinstance(row[key], str) else row[key] for key in ("context", "supporting_facts"))
    gold = {title for title, _ in facts}
    return [(title, " ".join(each.strip() for each in sentences), title in gold) for title, sentences in context]


def first_ranks(ranked: list[list[int]], gold: tuple[frozenset[int], ...]) -> NDArray[np.float64]:
    """For each question the rank of its first gold document, from 1; infinite if it is not among ``ranked``."""
    firsts = (
        next((rank for rank, at in enumerate(row, 1) if at in wanted), np.inf) for row, wanted in zip(ranked, gold, strict=True)
    )
    return np.fromiter(firsts, dtype=np.float64)


def measures(ranks: NDArray[np.float64]) -> dict[str, float]:
    """Share of questions with a gold document among the first 1, 5, 10 (recall, in percent), and the mean reciprocal rank."""
    recalls = {f"recall@{k}": float((ranks <= k).mean() * 100) for k in (1, 5, 10)}
    return {**recalls, "mrr": float((1 / ranks).mean() * 100)}


def intervals(ranks: NDArray[np.float64]) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of ``measures`` over the questions."""
    columns = np.stack([100.0 * (ranks <= 1), 100.0 * (ranks <= 5), 100.0 * (ranks <= 10), 100 / ranks], axis=1)
    found = ratios(columns, np.ones_like(columns))
    return {name: (each.low or 0.0, each.high or 0.0) for name, each in zip(measures(ranks), found, strict=True)}


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def write_rows(path: Path, rows: Iterable[object]) -> None:
    """The rows as JSONL, not compressed."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:80]
