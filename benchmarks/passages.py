"""Real passages and questions with their vectors, for benchmarks that need many: up to 200,000, of all English text in DATA.

    python benchmarks/passages.py DATA FOLDER [--count 200000]

The texts of every source, distinct, cut as the program cuts chunks (1,000 characters at most): 65,774 passages. What is wanted
beyond them is made of four sentences each, drawn from all of these texts. Passages are shuffled by a fixed seed, so any first
part is a fair sample. They are embedded under their titles, as the program does it, by the shipped embedder, and kept in
FOLDER: passages.jsonl, vectors.f32, questions.jsonl, questions.f32. A run that was stopped is taken up again; a run need not
end: `grown` makes up for vectors that are not there.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np
from corpus import read_rows, write_rows
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter

from selfrag.index.embedders import open_embedder

DIMENSION = 384
_BLOCK = 2000

Titled = tuple[str, str]


def texts(data: Path) -> Iterator[Titled]:
    """Title (or nothing) and text of every document of every source."""
    for row in read_rows(data / "corpora" / "wikipedia_vital_10k.jsonl.gz"):
        yield row["title"], row["text"]
    for part in ("train", "dev"):
        for row in read_rows(data / part / "squad2_halfdev.jsonl.gz"):
            yield row["title"].replace("_", " "), row["context"]
        for row in read_rows(data / part / "vitaminc.jsonl.gz"):
            yield row["page"], row["evidence"]
    train = data / "train"
    for row in read_rows(train / "fairytaleqa.jsonl.gz"):
        yield row["story"].replace("-", " "), row["context"]
    for row in read_rows(train / "halueval_qa.jsonl.gz"):
        yield "", row["knowledge"]
    for row in read_rows(train / "halueval_summarization.jsonl.gz"):
        yield "", row["document"]
    for name in ("wice_chunks", "wice_partial_tokens"):
        for row in read_rows(train / f"{name}.jsonl.gz"):
            yield "", "\n".join(row["evidence"])
    yield from _hops(train)


def _hops(train: Path) -> Iterator[Titled]:
    for name in ("2wiki_hops", "hotpotqa_100"):
        for row in read_rows(train / f"{name}.jsonl.gz"):
            context = row["context"]
            for title, sentences in json.loads(context) if isinstance(context, str) else context:
                yield title, " ".join(sentence.strip() for sentence in sentences)
    for row in read_rows(train / "musique_100.jsonl.gz"):
        for paragraph in row["paragraphs"]:
            yield paragraph["title"], paragraph["paragraph_text"]


def asked(data: Path) -> list[str]:
    """Questions that people wrote over such texts, in a fixed random order."""
    found: dict[str, None] = {}
    for row in read_rows(data / "dev" / "nq_wikipedia_vital.jsonl.gz"):
        found[row["question"]] = None
    for row in read_rows(data / "dev" / "squad2_halfdev.jsonl.gz"):
        found[row["question"]] = None
    for name in ("halueval_qa", "fairytaleqa"):
        for row in read_rows(data / "train" / f"{name}.jsonl.gz"):
            found[row["question"]] = None
    questions = list(found)
    random.Random(1).shuffle(questions)
    return questions


def passages(data: Path, count: int) -> Iterator[Titled]:
    """The first ``count``."""
    documents = list(dict.fromkeys(texts(data)))
    cut, sentence, source = TextSplitter(1000), TextSplitter(160), random.Random(160)
    pieces = list({piece: title for title, text in documents for piece in cut.chunks(text) if len(piece) >= 20}.items())
    random.Random(1000).shuffle(pieces)
    yield from ((title, piece) for piece, title in pieces[:count])
    sentences = list({piece: None for _, text in documents for piece in sentence.chunks(text) if len(piece) >= 20})
    yield from (("", " ".join(source.sample(sentences, 4))) for _ in range(count - len(pieces)))


def grown(real: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The first ``count`` of ``real``. Where they do not suffice, the rest is made up: a real vector moved by the difference of
    two other real ones that are near each other, so that neighbours lie as far away, and in such directions, as those of
    real ones."""
    if count <= len(real):
        return real[:count]
    source = np.random.default_rng(len(real))
    some = source.choice(len(real), min(4000, len(real)), replace=False)
    near = np.argsort(-(real[some] @ real.T), axis=1)[:, 1:11]
    base, pair = source.integers(len(real), size=count - len(real)), source.integers(len(some), size=count - len(real))
    moved = real[base] + real[some[pair]] - real[near[pair, source.integers(10, size=len(pair))]]
    return np.concatenate([real, moved / np.linalg.norm(moved, axis=1, keepdims=True)]).astype(np.float32)


def rows(path: Path) -> list[Any]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def vectors(path: Path) -> NDArray[np.float32]:
    """Unit vectors, shape (n, 384); n may be less than there are rows while a run goes on."""
    found = np.fromfile(path, dtype="<f4")
    return found[: len(found) // DIMENSION * DIMENSION].reshape(-1, DIMENSION)


def embedded(path: Path, of: Sequence[str], query: bool) -> None:
    """Appends the vectors that ``path`` lacks."""
    embedder = open_embedder()
    embed = embedder.queries if query else embedder.documents
    have = path.stat().st_size // (4 * DIMENSION) if path.exists() else 0
    started, used = time.monotonic(), time.process_time()
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(have * 4 * DIMENSION)
        file.seek(0, 2)
        for at in range(have, len(of), _BLOCK):
            file.write(embed(of[at : at + _BLOCK]).astype("<f4").tobytes())
            file.flush()
            took = f"{time.monotonic() - started:.0f} s, {time.process_time() - used:.0f} s CPU"
            print(f"{path.name}: {min(len(of), at + _BLOCK):,} of {len(of):,}, {took}", file=sys.stderr, flush=True)


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("folder", type=Path)
    options.add_argument("--count", type=int, default=200_000)
    options.add_argument("--questions", type=int, default=1000)
    given = options.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    questions, found = asked(given.data)[: given.questions], list(passages(given.data, given.count))
    write_rows(given.folder / "questions.jsonl", questions)
    write_rows(given.folder / "passages.jsonl", found)
    embedded(given.folder / "questions.f32", questions, query=True)
    embedded(given.folder / "vectors.f32", [f"{title}\n{text}" if title else text for title, text in found], query=False)


if __name__ == "__main__":
    main()
