"""What one answer is worth against what is known to be right. Pure: texts and passages in, numbers in [0, 1] out."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gold:
    """What is known of a question. ``answers`` are alternatives; ``groups`` are points that a long answer should all make, each
    with its alternatives. ``sources`` are paths, file names or titles that hold the answer, ``passage`` the paragraph itself.
    ``answerable`` is None where nothing is known."""

    answers: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    answerable: bool | None = None
    sources: tuple[str, ...] = ()
    passage: str | None = None


ANSWERS = ("answers", "answer", "possible_answers", "short_answers")
SOURCES = ("sources", "source", "gold_sources", "gold_source", "gold_titles", "gold_title", "titles", "title")
PASSAGES = ("gold_passage", "context", "passage")


def gold_of(columns: Json) -> Gold:
    """What the columns of a question say is right, under the names that data sets commonly use."""
    answers = next((texts(columns[name]) for name in ANSWERS if columns.get(name)), ())
    groups = tuple(texts(pair["short_answers"]) for pair in columns.get("qa_pairs") or () if pair.get("short_answers"))
    impossible = columns.get("unanswerable", columns.get("is_impossible"))
    answerable = not impossible if isinstance(impossible, bool) else True if answers or groups else None
    sources = next((texts(columns[name]) for name in SOURCES if columns.get(name)), ())
    passage = next((columns[name] for name in PASSAGES if isinstance(columns.get(name), str)), None)
    return Gold(answers or tuple(a for group in groups for a in group), groups, answerable, sources, passage)


def texts(value: object) -> tuple[str, ...]:
    """A text, or a list of texts or of {"text": ...}, as a tuple without empty ones."""
    if isinstance(value, Mapping):
        return texts(value.get("text"))
    if isinstance(value, list | tuple):
        return tuple(text for item in value for text in texts(item))
    return (str(value),) if value is not None and str(value).strip() else ()


# --- answers -------------------------------------------------------------------------------------------------------------------


def normalise(text: str) -> str:
    """As in the SQuAD evaluation: lower case, without ASCII punctuation, English articles and repeated white space."""
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def exact_match(answer: str, golds: Sequence[str]) -> float:
    return float(any(normalise(answer) == normalise(gold) for gold in golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """The best F1 over the golds, of the words that answer and gold share (SQuAD)."""
    return max((_f1(normalise(answer).split(), normalise(gold).split()) for gold in golds), default=0.0)


def _f1(answer: list[str], gold: list[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    shared = sum((Counter(answer) & Counter(gold)).values())
    return 2 * shared / (len(answer) + len(gold))


def contains(answer: str, golds: Sequence[str]) -> float:
    """The match of the Self-RAG paper: a gold answer stands in the answer, letter by letter, case included."""
    return float(any(gold in answer for gold in golds))


def accuracy(answer: str, golds: Sequence[str]) -> float:
    """A gold answer's words stand in the answer, one after the other, after normalisation; those that a hyphen or a slash joins
    count as one word or as several ("434-line" says "434")."""
    found = any(_within(normalise(gold), normalise(answer)) or _within(_apart(gold), _apart(answer)) for gold in golds)
    return float(found or exact_match(answer, golds))


def _within(words: str, text: str) -> bool:
    return bool(words) and f" {words} " in f" {text} "


def _apart(text: str) -> str:
    return normalise(re.sub(r"[-–—/]", " ", text))


def string_em(answer: str, groups: Sequence[Sequence[str]]) -> float:
    """The share of points that the answer makes (ASQA's STR-EM)."""
    return sum(accuracy(answer, group) for group in groups) / len(groups) if groups else 0.0


# --- passages ------------------------------------------------------------------------------------------------------------------


def is_gold(passage: Json, gold: Gold) -> bool | None:
    """Whether ``passage`` (its JSON) is where the answer is known to be; None if nothing is known, or its text was not kept."""
    if gold.passage is not None and passage.get("text"):
        return overlap(passage["text"], gold.passage) >= 0.8
    if gold.sources:
        return any(same_source(passage, source) for source in gold.sources)
    return None


def overlap(text: str, other: str) -> float:
    """The share of the shorter text's words, with multiplicity, that the longer one has too."""
    short, long = sorted((normalise(text).split(), normalise(other).split()), key=len)
    return sum((Counter(short) & Counter(long)).values()) / len(short) if short else 0.0


def same_source(passage: Json, source: str) -> bool:
    """A source is named by its path, the end of it, its file name with or without ending, or its title."""
    path = PurePath(str(passage.get("source") or ""))
    title = str(passage.get("title") or "")
    names = {str(path), path.name, path.stem, title, title.split(" › ")[0]}
    wanted = plain_name(source)
    return wanted in {plain_name(name) for name in names if name} or str(path).endswith(f"/{source}")


def plain_name(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


def has_answer(passage: Json, golds: Sequence[str]) -> bool | None:
    """Whether a gold answer stands in the passage; None if its text was not kept or no gold is known."""
    text = passage.get("text")
    return bool(accuracy(text, golds)) if text and golds else None


def recall_at(hits: Sequence[bool], k: int) -> float:
    """Whether one of the first ``k`` passages is a hit."""
    return float(any(hits[:k]))


def reciprocal_rank(hits: Iterable[bool]) -> float:
    return next((1 / rank for rank, hit in enumerate(hits, 1) if hit), 0.0)
