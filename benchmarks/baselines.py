"""The value of selection: a run compared with simpler rules, each answering as many questions as the run does.

A baseline may pick which questions it answers by a threshold of its own: the one under which it answers as often as the run. An
answer counts as right if the shown text contains a gold answer (or a gold sentence); no answer to an unanswerable question does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selfrag.algorithm.sentences import units
from selfrag.algorithm.words import content_words
from selfrag.answers.schema import shown
from selfrag.evaluation import intervals, metrics
from selfrag.evaluation.intervals import Floats, Interval
from selfrag.evaluation.metrics import Gold
from selfrag.evaluation.outcome import outcome

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What would be answered to a question, how sure that is in [0, 1], and whether it is right."""

    id: str
    confidence: float
    right: bool


def attempted(row: Row) -> Attempt:
    """What a run wrote, abstained from or not, with the confidence that it abstains by."""
    found = outcome(row)
    text = " ".join(shown(segment) for segment in row["segments"])
    return Attempt(found.id, found.confidence if row["segments"] else 0.0, is_right(text, found.gold))


def best_sentence(row: Row) -> Attempt:
    """The sentence of the retrieved passages that has the most of the question's words, without any model; of equals the one of
    the better passage. KeyError if the rows do not hold their passages' texts."""
    asked = set(content_words(row["question"]))
    sentences = [p["text"][unit.start : unit.end] for p in row["passages"] for unit in units(p["text"])]
    shares = [len(asked & set(content_words(sentence))) / max(1, len(asked)) for sentence in sentences]
    best = int(np.argmax(shares)) if shares else None
    text = "" if best is None else sentences[best]
    return Attempt(str(row["id"]), 0.0 if best is None else shares[best], is_right(text, outcome(row).gold))


def is_right(text: str, gold: Gold) -> bool:
    if not gold.answerable or not text:
        return False
    return bool(metrics.accuracy(text, gold.answers) if gold.answers else metrics.holds_sentence(text, gold.sentences))


def at_coverage(attempts: Sequence[Attempt], count: int) -> Floats:
    """1 for each question answered correctly when the ``count`` most confident ones are answered. Ties in confidence at the
    border count fractionally, by the share of them that fits."""
    confidence = np.array([a.confidence for a in attempts], dtype=np.float64)
    right = np.array([a.right for a in attempts], dtype=np.float64)
    if count <= 0 or not len(attempts):
        return np.zeros(len(attempts))
    border = np.sort(confidence)[::-1][min(count, len(attempts)) - 1]
    above, at = confidence > border, confidence == border
    room = (count - above.sum()) / at.sum()
    return np.asarray(right * np.where(above, 1.0, np.where(at, min(1.0, room), 0.0)))


@dataclass(frozen=True, slots=True)
class Margin:
    """The run against a baseline: the share of all questions that each answers rightly, and the run minus the baseline."""

    run: float
    baseline: float
    difference: Interval


def margin(run: Sequence[Row], baseline: Sequence[Attempt]) -> Margin:
    """Over the questions that both have. The baseline answers as many of them as the run answered."""
    others = {attempt.id: attempt for attempt in baseline}
    rows = [row for row in run if row["status"] != "error" and str(row["id"]) in others]
    rows = [row for row in rows if outcome(row).gold.answerable is not None]
    own = np.array([row["status"] == "answered" and attempted(row).right for row in rows], dtype=np.float64)
    count = sum(row["status"] == "answered" for row in rows)
    other = at_coverage([others[str(row["id"])] for row in rows], count)
    ones = np.ones(len(rows))
    if not len(rows):
        return Margin(0.0, 0.0, Interval(None))
    return Margin(float(own.mean()), float(other.mean()), intervals.paired(other, ones, own, ones))
