"""The training data of a re-ranker: questions, a passage that answers, and similar passages that do not.

Sources are the normalised files of a data folder, and the definitions of Python's standard library for questions on code. The
negatives of a question are the best of BM25 over all passages of its group of sources, plus those listed in the file.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from selfrag.algorithm.words import FUNCTION_WORDS
from selfrag.train.hard_negatives import HardNegatives
from selfrag.train.passages import holds, window
from selfrag.train.prepare import load
from selfrag.train.sources import Record

NEGATIVES = 15
"""Negatives kept of each question; training draws a few of them in each epoch."""

WORDS = 110
"""Passages are cut to about this many words around their answer, like the chunks of an index."""

Text = tuple[str, str]
"""Title and text of a passage."""

GROUPS: dict[str, tuple[str, ...]] = {
    "encyclopedia": ("nq_gold_sentences", "qed_sentences", "tydiqa_en_sentences", "selqa_sentences", "squad2_halfdev",
                     "boolq_passages"),
    "documentation": ("docs_faq_en", "docs_headings_en", "docs_glossary", "tldr_howto_en"),
    "medicine": ("medquad", "covidqa_sentences", "pubmedqa_conclusions"),
    "policies": ("policyqa_sentences",),
    "papers": ("qasper_sentences",),
    "stories": ("fairytaleqa",),
}  # fmt: skip
"""Files whose passages are searched together for negatives."""

_LIMITS = {"fairytaleqa": 400, "boolq_passages": 400, "tldr_howto_en": 500, "tydiqa_en_sentences": 1200, "selqa_sentences": 1000,
           "squad2_halfdev": 1000, "docs_faq_en": 1600, "docs_headings_en": 700, "docs_glossary": 300, "medquad": 600,
           "covidqa_sentences": 500, "pubmedqa_conclusions": 200, "policyqa_sentences": 400, "qasper_sentences": 300}  # fmt: skip
_CODE_LINES = 24


@dataclass(frozen=True, slots=True)
class Example:
    """``negatives`` are best first, at most `NEGATIVES`."""

    source: str
    question: str
    positive: Text
    negatives: tuple[Text, ...]


def examples(data: Path, rng: Random) -> list[Example]:
    """All examples of the data folder (with ``train/`` and ``corpora/``), shuffled."""
    found = [example for files in GROUPS.values() for example in _group(data, files, rng)]
    found += _open_questions(data)
    found += _code(rng)
    rng.shuffle(found)
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    source: str
    question: str
    title: str
    passage: str
    answer: str
    """A string of the passage that the cut keeps; empty for its beginning."""
    forbidden: tuple[str, ...]
    """No negative holds one of these."""
    named: tuple[str, ...]


def _asked(source: str, row: Record) -> _Asked | None:
    passage = str(row.get("passage") or row.get("context") or "")
    if not passage or row.get("unanswerable"):
        return None
    answers = [str(each) for each in row.get("answers") or ()]
    kept = [str(each) for each in row.get("sentence_answers") or answers]
    title = str(row.get("title") or row.get("story") or "").replace("_", " ")
    long_enough = tuple(each for each in answers if len(each) > 2)
    negatives = tuple(str(each) for each in row.get("negatives") or ())
    return _Asked(source, str(row["question"]), title, passage, kept[0] if kept else "", long_enough, negatives)


def _group(data: Path, files: Sequence[str], rng: Random) -> Iterator[Example]:
    asked = []
    for file in files:
        rows = [each for row in load(data / "train" / f"{file}.jsonl.gz") if (each := _asked(file, row))]
        rng.shuffle(rows)
        asked += rows[: _LIMITS.get(file)]
    pool = list(dict.fromkeys((each.title, text) for each in asked for text in (each.passage, *each.named)))
    pool = [(title, _cut(text, "", rng)) for title, text in pool]
    neighbours = HardNegatives(pool)
    for each in asked:
        positive = (each.title, _cut(each.passage, each.answer, rng))
        near = [(each.title, _cut(text, "", rng)) for text in each.named]
        found = (neighbours.passages[at] for at in neighbours.search(_telling(each.question), 30))
        whole = each.passage
        negatives = _fit([*near, *(text for text in found if text[1] not in whole)], positive, each.forbidden)
        if len(negatives) >= 4:
            yield Example(each.source, each.question, positive, negatives)


def _fit(found: Iterable[Text], positive: Text, forbidden: Sequence[str]) -> tuple[Text, ...]:
    """The texts that differ from ``positive`` and contain no answer, each once."""
    other = (text for text in dict.fromkeys(found) if text[1][:80] != positive[1][:80] and not holds(text[1], list(forbidden)))
    return tuple(islice(other, NEGATIVES))


def _telling(question: str) -> str:
    """The discriminative words of a question; common ones only cost time."""
    kept = [word for word in re.findall(r"\w+", question) if word.lower() not in FUNCTION_WORDS]
    return " ".join(kept) or question


def _cut(passage: str, answer: str, rng: Random) -> str:
    at = passage.find(answer) if answer else (0 if rng.random() < 0.5 else rng.randrange(len(passage)))
    return window(passage, max(0, at), WORDS, rng)


def _open_questions(data: Path) -> Iterator[Example]:
    """Questions without a passage, over the summaries: the best summary that contains an answer counts as the positive."""
    summaries = [(str(row["title"]), str(row["text"])) for row in load(data / "corpora" / "wikipedia_vital_10k.jsonl.gz")]
    neighbours = HardNegatives(summaries)
    held_out = {row["question"].casefold() for row in load(data / "dev" / "nq_wikipedia_vital.jsonl.gz")}
    for file in ("nq_open_questions", "efficientqa_rated_answers"):
        for row in load(data / "train" / f"{file}.jsonl.gz"):
            question = str(row["question"])
            answers = [answer for each in row["answer"] if len(answer := str(each)) > 4 and not re.fullmatch(r"[\d\W]+", answer)]
            if question.casefold() in held_out:
                continue
            found = [neighbours.passages[at] for at in neighbours.search(_telling(question), 30)]
            holding = [text for text in found if holds(" ".join(text), answers)]
            if holding and found.index(holding[0]) < 10:
                others = _fit([text for text in found if text not in holding], holding[0], answers)
                if len(others) >= 4:
                    yield Example(file, question, holding[0], others)


# --- code -----------------------------------------------------------------------------------------------------------------


def _code(rng: Random, count: int = 1500) -> Iterator[Example]:
    """Definitions of the standard library, asked for by their docstring or their name."""
    chunks: list[Text] = []
    defined: list[tuple[str, str, Text]] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) + sorted(
        each for folder in ("asyncio", "email", "http", "json", "logging", "unittest", "xml", "multiprocessing", "importlib")
        for each in (Path(sysconfig.get_path("stdlib")) / folder).rglob("*.py")
    ):  # fmt: skip
        source = path.read_text(encoding="utf-8", errors="replace")
        lines = source.splitlines()
        chunks += [("", "\n".join(lines[at : at + _CODE_LINES])) for at in range(0, len(lines), _CODE_LINES)]
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (doc := ast.get_docstring(node)):
                sentence = re.split(r"(?<=[.!?])\s|\n\n", doc.strip())[0].replace("\n", " ").strip()
                text = "\n".join(lines[node.lineno - 1 : node.end_lineno][:_CODE_LINES])
                if 3 < len(sentence.split()) < 30 and len(text) > 120:
                    defined.append((node.name, sentence, ("", text)))
    rng.shuffle(defined)
    neighbours = HardNegatives(chunks)
    for name, sentence, positive in defined[:count]:
        kind = "class" if positive[1].startswith("class") else "function"
        by_name = (f"What is the purpose of the `{name}` {kind}?", f"How does {name} work?", f"What does the {kind} {name} do?",
                   f"Where is {name} defined?")  # fmt: skip
        plain = sentence.rstrip(".")
        by_words = (plain, f"How do I {plain[0].lower()}{plain[1:]}?", f"Which {kind} is there to: {plain}?")
        question = rng.choice(by_name if rng.random() < 0.5 else by_words)
        shown = positive
        if rng.random() < 0.7:
            shown = ("", re.sub(r'("""|\'\'\')[\s\S]*?(\1|$)', "", positive[1], count=1))
        found = (neighbours.passages[at] for at in neighbours.search(_telling(question), 20))
        own = set(positive[1].splitlines()[1:6])
        negatives = _fit((each for each in found if len(own & set(each[1].splitlines())) < 2), shown, ())
        if len(negatives) >= 4:
            yield Example("python_standard_library", question, shown, negatives)
