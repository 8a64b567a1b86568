"""BM25 over many passages: SQLite's FTS5 as the program asks it, tantivy, and bm25s with memory mapping.

    pip install tantivy bm25s PyStemmer
    python benchmarks/fulltext.py DATA --work FOLDER [--count 200000]

Milliseconds of the processor for the 100 best passages of 100 questions, one at a time, and the share of FTS5's ten best that the
others find. Passages and questions are those of benchmarks/passages.py.
"""

from __future__ import annotations

import re
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import harness
from passages import Titled, asked, passages

from selfrag.index.search import fulltext

DEPTH = 100
Search = Callable[[str], list[int]]


def fts5(path: Path, texts: Sequence[Titled]) -> tuple[Search, Search]:
    """The program's query, and the same without words that more than a tenth of all passages hold."""
    new = not path.exists()
    db = sqlite3.connect(path)
    if new:
        db.execute("CREATE VIRTUAL TABLE words USING fts5(head, body, tokenize = 'porter unicode61 remove_diacritics 2')")
        rows = ((at, fulltext.words(title), fulltext.words(text)) for at, (title, text) in enumerate(texts))
        db.executemany("INSERT INTO words(rowid, head, body) VALUES (?, ?, ?)", rows)
        db.commit()

    def search(question: str, share: float) -> list[int]:
        terms = fulltext.terms(question)
        held = {term: db.execute("SELECT count(*) FROM words WHERE words MATCH ?", (term,)).fetchone()[0] for term in terms}
        telling = [term for term in terms if held[term] <= share * len(texts)] or terms
        query = "SELECT rowid, bm25(words, 0.5, 1.0) AS cost FROM words WHERE words MATCH ? ORDER BY cost LIMIT ?"
        return [row[0] for row in db.execute(query, (" OR ".join(telling), DEPTH))]

    return lambda question: search(question, 0.5), lambda question: search(question, 0.1)


def tantivy_search(folder: Path, texts: Sequence[Titled]) -> Search:
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_integer_field("id", stored=True, fast=True)
    schema.add_text_field("head", tokenizer_name="en_stem")
    schema.add_text_field("body", tokenizer_name="en_stem")
    new = not folder.exists()
    folder.mkdir(exist_ok=True)
    index = tantivy.Index(schema.build(), path=str(folder))
    if new:
        writer = index.writer(heap_size=100_000_000, num_threads=1)
        for at, (title, text) in enumerate(texts):
            writer.add_document(tantivy.Document(id=at, head=title, body=text))
        writer.commit()
        writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def search(question: str) -> list[int]:
        words = " ".join(re.findall(r"\w+", question.lower()))
        query = index.parse_query(words, ["body", "head"], field_boosts={"head": 0.5, "body": 1.0})
        return [searcher.doc(address)["id"][0] for _, address in searcher.search(query, DEPTH).hits]

    return search


def bm25s_search(folder: Path, texts: Sequence[Titled]) -> Search:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")

    def tokens(of: list[str]) -> object:
        return bm25s.tokenize(of, stemmer=stemmer, stopwords=None, show_progress=False)

    if not folder.exists():
        made = bm25s.BM25()
        made.index(tokens([f"{title} {text}" for title, text in texts]), show_progress=False)
        made.save(str(folder))
    index = bm25s.BM25.load(str(folder), mmap=True)

    def search(question: str) -> list[int]:
        found, _ = index.retrieve(tokens([question]), k=DEPTH, show_progress=False)
        return [int(at) for at in found[0]]

    return search


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200_000)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    texts, questions = list(passages(options.data, options.count)), asked(options.data)[:100]
    best: dict[str, list[int]] = {}

    def measure(name: str, search: Search) -> None:
        took, shared = [], []
        for question in questions:
            started = time.process_time()
            found = search(question)
            took.append((time.process_time() - started) * 1000)
            wanted = best.setdefault(question, found)[:10]
            shared.append(len(set(found[:10]) & set(wanted)) / max(1, len(wanted)))
        took.sort()
        print(f"| {name} | {took[50]:.1f} / {took[95]:.1f} | {statistics.mean(shared):.3f} |", flush=True)

    print("| BM25 by | CPU ms, p50 / p95 | of FTS5's ten |\n|---|---:|---:|")
    now, fewer = fts5(options.work / f"{options.count}.sqlite", texts)
    measure("FTS5, as shipped", now)
    measure("FTS5, words of a tenth of the passages left out", fewer)
    measure("tantivy", tantivy_search(options.work / f"tantivy-{options.count}", texts))
    measure("bm25s, memory-mapped", bm25s_search(options.work / f"bm25s-{options.count}", texts))


if __name__ == "__main__":
    main()
