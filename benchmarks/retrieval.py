"""Retrieval, way by way: dense, BM25, fused, and with the lead, a re-ranker, a second search in other words, the graph of names.

    python benchmarks/retrieval.py DATA --work FOLDER [--sets code ...] [--reranker FILE] [--minutes 11]

DATA is the folder with corpora/, dev/ and train/. Documents are written as files below FOLDER and indexed there by
`Collection.sync`. What was measured is kept in FOLDER, question by question: the same command goes on, and writes the table of
all that there is. Defaults are chosen on the questions with even numbers and reported on the odd ones. A document counts once, by
its best passage. For questions with one hop: is a gold document among the first? With several: are all of them?

"+ correction" is the search of `--correct` alone, without a model: the first five passages, then those that the rewritten
questions find besides, whether or not the first ones were relevant.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import harness
import numpy as np
from corpus import HOPS, Corpus, code, hops, read_rows, squad, wikipedia
from numpy.typing import NDArray

from selfrag.algorithm.correction import ROUNDS, rewritten
from selfrag.evaluation import intervals
from selfrag.evaluation.tables import markdown_table
from selfrag.index.collection import Collection
from selfrag.index.rerankers import Reranker, open_reranker
from selfrag.index.search.hybrid import Fusion, Hit, Question
from selfrag.index.search.rerank import DEPTH, rerank
from selfrag.index.sync.pipeline import Options

SHOWN = 20
LEAD = 200
SETS = ("wikipedia", "squad", "code", *HOPS)
NAMES = {
    "wikipedia": "Natural Questions over Wikipedia summaries",
    "squad": "SQuAD 2.0 paragraphs, every third question",
    "code": "Contextual code",
    "2wiki_hops": "2WikiMultihop",
    "hotpotqa_100": "HotpotQA",
    "musique_100": "MuSiQue",
}
WAYS = ("dense", "BM25", "fused", "+ lead", "+ re-ranker", "+ correction", "+ graph", "+ graph, auto")
Found = list[Hit]
Way = Callable[[Collection, str], Found]


def indexed(corpus: Corpus, key: str, context: str, work: Path) -> tuple[Collection, dict[str, int]]:
    """The collection of a corpus, brought up to date, and the document that each source path is."""
    folder = work / key
    folder.mkdir(parents=True, exist_ok=True)
    names = [path.name for path in folder.iterdir()]
    if len(names) != len(corpus.titles):
        names = corpus.write(folder)
    collection = Collection(work / "home", f"{key}-{context}")
    report = collection.sync([str(folder)], Options(context=context))
    print(f"{collection.name}: {report.chunks} chunks, {report.seconds:.0f} s", flush=True)
    return collection, {str(folder / name): int(name.rsplit("-", 1)[1].partition(".")[0]) for name in names}


def one(name: str, data: Path) -> tuple[Corpus, str]:
    """A set of questions with its documents, and the key of the collection that holds them."""
    if name in HOPS:
        return hops(data)[name], "hops"
    if name == "squad":
        whole = squad(data)
        return replace(whole, questions=whole.questions[::3], gold=whole.gold[::3]), name
    return {"wikipedia": wikipedia, "code": code}[name](data), name


def ways(reranker: Reranker | None) -> dict[str, Way]:
    def searched(**how: Any) -> Way:
        fusion = how.pop("fusion", Fusion())

        def way(collection: Collection, text: str) -> Found:
            collection.fusion = fusion
            return collection.find_now([Question(text, SHOWN, **how)])[0]

        return way

    fused = searched()

    def corrected(collection: Collection, text: str) -> Found:
        read = fused(collection, text)[:5]
        for number in range(1, ROUNDS + 1):
            if query := rewritten(text, [hit.passage for hit in read], number):
                seen = {hit.passage.chunk for hit in read}
                read += [hit for hit in fused(collection, query)[:10] if hit.passage.chunk not in seen]
        return read

    found = {
        "dense": searched(fusion=Fusion(bm25=0)),
        "BM25": searched(fusion=Fusion(dense=0)),
        "fused": fused,
        "+ lead": fused,
        "+ correction": corrected,
        "+ graph": searched(graph="on"),
        "+ graph, auto": searched(graph="auto"),
    }
    if reranker is not None:
        chosen = reranker
        found["+ re-ranker"] = lambda collection, text: rerank(chosen, text, fused(collection, text)[:DEPTH])
    return found


def measure(name: str, given: Any, until: float) -> bool:
    """Adds to the rows of a set what they lack; whether that was finished in time."""
    corpus, key = one(name, given.data)
    file = given.work / f"{name}.jsonl"
    done = {(row["way"], row["at"]) for row in rows(file)}
    reranker = open_reranker(given.reranker)
    context = "none" if name == "code" else "headings"
    collection, documents = indexed(corpus, key, context, given.work)
    with file.open("a", encoding="utf-8") as out:
        for way, search in ways(reranker).items():
            wanted = [at for at in range(len(corpus.questions)) if (way, at) not in done]
            if way == "+ lead" and (name != "code" or not wanted):
                continue  # elsewhere a document is one paragraph, and the lead is that paragraph
            asked, numbers = collection, documents
            if way == "+ lead":
                asked, numbers = indexed(code(given.data, LEAD), f"{key}-lead", context, given.work)
            if wanted:
                search(asked, corpus.questions[0])
            for at in wanted:
                if time.monotonic() > until:
                    return False
                started = time.process_time()
                hits = search(asked, corpus.questions[at])
                took = (time.process_time() - started) * 1000
                ranked = list(dict.fromkeys(numbers[hit.passage.source] for hit in hits))
                print(json.dumps({"way": way, "at": at, "ranked": ranked, "ms": round(took, 2)}), file=out)
    return True


def peak(way: str, given: Any) -> float:
    """MiB of a process that asks five questions of Natural Questions."""
    collection = Collection(given.work / "home", "wikipedia-headings")
    search = ways(open_reranker(given.reranker) if way == "+ re-ranker" else None)[way]
    for row in islice(read_rows(given.data / "dev" / "nq_wikipedia_vital.jsonl.gz"), 5):
        search(collection, row["question"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


# --- the tables ----------------------------------------------------------------------------------------------------------------


def scored(ranked: Sequence[int], gold: frozenset[int], several: bool) -> list[float]:
    """In percent, of one question: is a gold document first, are one (all, if ``several``) among the first 5 and 10, 1 / rank."""
    first = next((rank for rank, at in enumerate(ranked, 1) if at in gold), np.inf)
    within = [gold <= set(ranked[:k]) if several else first <= k for k in (5, 10)]
    return [100.0 * (first == 1), 100.0 * within[0], 100.0 * within[1], 100 / first]


def table(name: str, given: Any) -> str:
    corpus, _ = one(name, given.data)
    several, count = name in HOPS, len(corpus.questions)
    kept = rows(given.work / f"{name}.jsonl")
    values: dict[str, NDArray[np.float64]] = {}
    times: dict[str, list[float]] = {}
    for way in WAYS:
        found = {row["at"]: row for row in kept if row["way"] == way}
        if len(found) == count:
            ordered = [found[at] for at in range(count)]
            values[way] = np.array([scored(row["ranked"], gold, several) for row, gold in zip(ordered, corpus.gold, strict=True)])
            times[way] = [row["ms"] for row in ordered]
    lines = []
    for way, each in values.items():
        limits = intervals.ratios(each, np.ones_like(each))
        cells = [f"{found.value:.1f} ({found.low:.0f}–{found.high:.0f})" for found in limits]
        halves = [" / ".join(f"{value:.1f}" for value in each[half::2].mean(axis=0)) for half in (0, 1)]
        against = "" if way == "fused" else f"{gain(values['fused'], each, 1)}, {gain(values['fused'], each, 3)}"
        lines.append([way, *cells, *halves, against, " / ".join(f"{np.quantile(times[way], at):.0f}" for at in (0.5, 0.95))])
    head = ["way", *(("first@1", "all@5", "all@10", "MRR") if several else ("recall@1", "recall@5", "recall@10", "MRR"))]
    head += ["even half", "odd half", "odd half, against fused: @5, MRR", "CPU ms"]
    return f"## {NAMES[name]}: {count} questions, {len(corpus.titles):,} documents\n\n{markdown_table(head, lines)}"


def gain(before: NDArray[np.float64], after: NDArray[np.float64], column: int) -> str:
    one, other = before[1::2, column], after[1::2, column]
    found = intervals.paired(one, np.ones_like(one), other, np.ones_like(other))
    return f"{found.value:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def main() -> None:
    parser = harness.parser(__doc__, "retrieval.md")
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--reranker", default="none", help="a file of `selfrag train reranker`")
    parser.add_argument("--minutes", type=float, default=11.0, help="stop then; the same command goes on")
    parser.add_argument("--peak", choices=WAYS, help="only print the memory of a process that searches this way")
    given = parser.parse_args()
    if given.peak:
        given.work = given.work.resolve()
        print(peak(given.peak, given))
        return
    given.work = given.work.resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * given.minutes
    finished = all(measure(name, given, until) for name in given.sets)
    print("finished" if finished else "stopped in time; the same command goes on", file=sys.stderr)
    measured = [name for name in SETS if (given.work / f"{name}.jsonl").exists()]
    blocks = [table(name, given) for name in measured]
    if finished and "wikipedia" in measured:
        shown = [way for way in WAYS if way != "+ lead" and (way != "+ re-ranker" or given.reranker != "none")]
        cost = [[way, f"{apart(way):.0f}"] for way in shown]
        blocks.append(
            "Memory of a process that searches the Wikipedia summaries:\n\n" + markdown_table(["way", "MiB at most"], cost)
        )
    harness.write(given.out, "Retrieval", *blocks)


def apart(way: str) -> float:
    done = subprocess.run([sys.executable, *sys.argv, "--peak", way], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
