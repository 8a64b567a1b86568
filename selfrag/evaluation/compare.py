"""Comparison of two runs over the same questions: differences, their significance, and the steps that caused them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from selfrag.errors import InputError
from selfrag.evaluation import aggregate, intervals
from selfrag.evaluation.aggregate import METRICS
from selfrag.evaluation.intervals import Floats, Interval
from selfrag.evaluation.outcome import Outcome

Stage = Literal[
    "right", "failed", "answered all the same", "abstained", "not retrieved", "retrieval", "relevance", "support", "unknown"
]
STAGES: Mapping[Stage, str] = {
    "right": "the answer is right, or rightly abstained",
    "failed": "the question failed",
    "answered all the same": "the question has no answer, but one was given",
    "abstained": "the question has an answer, but none was given",
    "not retrieved": "no evidence was looked for",
    "retrieval": "the passage that holds the answer was not among those found",
    "relevance": "it was found, but another passage was preferred",
    "support": "it was cited, but what was written from it is wrong",
    "unknown": "wrong, and it is not known which passage holds the answer",
}


def stage(o: Outcome) -> Stage:
    """The first step of the search that lost the right answer."""
    if o.status == "error":
        return "failed"
    if o.gold.answerable is False:
        return "answered all the same" if o.answered else "right"
    if o.accuracy:
        return "right"
    if not o.answered:
        return "abstained"
    if not o.retrieved:
        return "not retrieved"
    if o.hits is None:
        return "unknown"
    if not any(o.hits):
        return "retrieval"
    if o.cited_gold is None:
        return "unknown"
    return "support" if any(o.cited_gold) else "relevance"


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric in both runs, and second minus first. ``p`` is McNemar's, for metrics that are 0 or 1 for each question."""

    name: str
    label: str
    first: float | None
    second: float | None
    difference: Interval
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A question whose answer is right in one run alone."""

    id: str
    question: str
    gold: tuple[str, ...]
    answers: tuple[str, str]
    stages: tuple[Stage, Stage]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``moves`` counts the pairs of stages, first and second run. ``unpaired`` questions are in one run only, or differ
    under the same id; ``failed`` ones failed in one of the runs. Both are left out."""

    paired: int
    unpaired: int
    failed: int
    differences: tuple[Difference, ...]
    changes: tuple[Change, ...]
    moves: Mapping[tuple[Stage, Stage], int]


def compare(first: Sequence[Outcome], second: Sequence[Outcome]) -> Comparison:
    """InputError if the two runs have no question in common."""
    before, after = {o.id: o for o in first}, {o.id: o for o in second}
    same = [(a, after[key]) for key, a in before.items() if key in after and after[key].question == a.question]
    pairs = [(a, b) for a, b in same if "error" not in (a.status, b.status)]
    if not pairs:
        raise InputError("the two runs have no answered question in common", "compare two outputs made from the same questions")
    known = [(a, b) for a, b in pairs if a.gold.answerable is not None]
    stages = [(stage(a), stage(b)) for a, b in known]
    changes = [
        Change(a.id, a.question, a.gold.answers, (a.answer, b.answer), pair)
        for (a, b), pair in zip(known, stages, strict=True)
        if (pair[0] == "right") != (pair[1] == "right")
    ]
    unpaired = len(before) + len(after) - 2 * len(same)
    return Comparison(len(pairs), unpaired, len(same) - len(pairs), differences(pairs), tuple(changes), Counter(stages))


def differences(pairs: Sequence[tuple[Outcome, Outcome]]) -> tuple[Difference, ...]:
    tops_a, bottoms_a = aggregate.columns([a for a, _ in pairs])
    tops_b, bottoms_b = aggregate.columns([b for _, b in pairs])
    found = []
    for i, metric in enumerate(METRICS):
        columns = (tops_a[:, i], bottoms_a[:, i], tops_b[:, i], bottoms_b[:, i])
        interval = intervals.paired(*columns)
        if interval.value is not None:
            p = _mcnemar(*columns) if metric.binary else None
            found.append(Difference(metric.name, metric.label, _ratio(*columns[:2]), _ratio(*columns[2:]), interval, p))
    return tuple(found)


def _ratio(top: Floats, bottom: Floats) -> float:
    return float(top.sum() / bottom.sum())


def _mcnemar(top_a: Floats, bottom_a: Floats, top_b: Floats, bottom_b: Floats) -> float:
    both = (bottom_a > 0) & (bottom_b > 0)
    return intervals.mcnemar(int((both & (top_a > top_b)).sum()), int((both & (top_b > top_a)).sum()))


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    found = asdict(comparison)
    moves = [{"first": a, "second": b, "questions": n} for (a, b), n in comparison.moves.items()]
    return {"schema": "selfrag.comparison/1", **found, "moves": moves}
