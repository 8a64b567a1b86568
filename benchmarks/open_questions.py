"""Open questions of documentation and health pages through a search, and how much of it the longer quotes are.

    python benchmarks/open_questions.py draw DATA WORK [--part dev|train]
    selfrag index WORK/folder -c open
    selfrag batch WORK/questions.jsonl -c open --concurrency 1 --keep-passages -o WORK/answers.jsonl
    python benchmarks/open_questions.py score DATA WORK

``draw`` writes every passage of docs_faq_en, docs_headings_en and medquad as a file, and 60 questions (seed 7) whose answer is
annotated; the reference is the whole passage, the annotated answer is kept beside it. From the training part, which is larger, it
takes 550 passages and 100 questions (seed 18). ``score`` compares the answers with the same ones whose quotes do not go on, and
with the first sentences of the first passage.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import harness
import numpy as np
from corpus import read_rows, write_rows

from selfrag.algorithm.joined import EXPLAINED
from selfrag.algorithm.sentences import units
from selfrag.answers.quotes import quote_of
from selfrag.answers.schema import shown_answer
from selfrag.evaluation import intervals, metrics
from selfrag.evaluation.tables import markdown_table

Row = dict[str, Any]

SETS = {"docs_faq_en": (250, 45), "docs_headings_en": (150, 30), "medquad": (150, 25)}
"""The sets, with the passages and questions taken from their training part."""


def development(data: Path) -> tuple[list[Row], list[Row]]:
    """Passages and questions."""
    rows = [row for row in read_rows(data / "dev" / "sentence_answers.jsonl.gz") if row["set"] in SETS]
    answered = [row for row in rows if row.get("long_answer")]
    Random(7).shuffle(answered)
    return rows, answered[:60]


def training(data: Path) -> tuple[list[Row], list[Row]]:
    rng, passages, questions = Random(18), list[Row](), list[Row]()
    for name, (most, asked) in SETS.items():
        rows = list(read_rows(data / "train" / f"{name}.jsonl.gz"))
        rng.shuffle(rows)
        rows = [row for row in rows if row["meta"].get("lang", "en") == "en"]
        chosen = [row for row in rows if row.get("long_answer")][:asked]
        passages += chosen + [row for row in rows if row not in chosen][: most - asked]
        questions += chosen
    rng.shuffle(questions)
    return passages, questions


def draw(data: Path, work: Path, part: str) -> None:
    passages, questions = development(data) if part == "dev" else training(data)
    (work / "folder").mkdir(parents=True)
    for row in passages:
        (work / "folder" / f"{row['id']}.txt").write_text(row["passage"], encoding="utf-8")
    kept = [
        {"id": row["id"], "question": row["question"], "references": [row["passage"]], "annotated": row["long_answer"],
         "sentence_answers": row["sentence_answers"], "source": f"{row['id']}.txt"}
        for row in questions
    ]  # fmt: skip
    write_rows(work / "questions.jsonl", kept)
    print(len(passages), "passages,", len(kept), "questions", dict(Counter(row["id"].split("-")[0] for row in kept)))


def without_going_on(row: Row) -> str:
    """The answer of a row with the quote of each segment's own words."""
    texts = {citation["n"]: citation["text"] for citation in row["citations"]}
    segments = []
    for segment in row["segments"]:
        text, quote = texts.get(segment["citation"], ""), segment["quote"]
        if quote and quote["span"] and (found := quote_of(segment["text"], text, row["question"])):
            quote = {**quote, "text": text[found.start : found.end]}
        segments.append({**segment, "quote": quote})
    return shown_answer({**row, "segments": segments})  # type: ignore[typeddict-item]


def first_sentences(row: Row, count: int, most: int = sys.maxsize) -> str:
    """The first ``count`` sentences of the first passage; further ones only up to ``most`` words."""
    text = row["passages"][0]["text"] if row["passages"] else ""
    parts, end = units(text), 0
    for place, unit in enumerate(parts[:count]):
        if place and len(text[parts[0].start : unit.end].split()) > most:
            break
        end = unit.end
    return text[parts[0].start : end] if parts else ""


RULES: dict[str, Callable[[Row], str]] = {
    "selfrag": lambda row: shown_answer(row),  # type: ignore[arg-type]
    "the same answers, quotes do not go on": without_going_on,
    "rule: the first sentence of the first passage": lambda row: first_sentences(row, 1),
    "rule: the first two sentences of the first passage": lambda row: first_sentences(row, 2),
    f"rule: its first sentences, up to {EXPLAINED} words": lambda row: first_sentences(row, sys.maxsize, EXPLAINED),
    "the first passage, whole": lambda row: row["passages"][0]["text"] if row["passages"] else "",
}


def scores(rows: Sequence[Row], rule: Callable[[Row], str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of each row: recall and precision of content words against the passage, then against the annotated answer, whether a gold
    sentence is held, words. An abstention counts 0."""
    found = []
    for row in rows:
        text, wholes = rule(row), (row["references"], [row["annotated"]])
        content = [
            f(text, whole) if text else 0.0 for whole in wholes for f in (metrics.content_recall, metrics.content_precision)
        ]
        found.append([*content, float(metrics.holds_sentence(text, row["sentence_answers"])), len(text.split())])
    return np.array(found, dtype=np.float64)


def score(work: Path) -> None:
    rows = [json.loads(line) for line in (work / "answers.jsonl").open()]
    found = {name: scores(rows, rule) for name, rule in RULES.items()}
    head = ("", "recall", "precision", "recall, annotated", "precision, annotated", "gold sentence", "words shown")
    lines = [[name, *(f"{x:.3f}" for x in each.mean(0)[:5]), f"{each.mean(0)[5]:.1f}"] for name, each in found.items()]
    print(markdown_table(head, lines))
    longer, shorter, ones = found["selfrag"][:, 0], found["the same answers, quotes do not go on"][:, 0], np.ones(len(rows))
    print("recall that the longer quotes add:", intervals.paired(shorter, ones, longer, ones))
    print("answered:", sum(row["status"] == "answered" for row in rows), "of", len(rows))
    print("tokens written, of a question:", sum(row["usage"]["completion_tokens"] for row in rows) / len(rows))


def main() -> int:
    parser = harness.parser(__doc__)
    parser.add_argument("step", choices=["draw", "score"])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--part", choices=["dev", "train"], default="dev")
    given = parser.parse_args()
    if given.step == "draw":
        draw(given.data, given.work, given.part)
    else:
        score(given.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
