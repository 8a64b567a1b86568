"""Fits abstention thresholds on rated answers instead of questions with known answers.

Answering was right if an answer is rated good or an abstention is rated bad. Scores come from the history, at the temperatures
and biases of the answers, which the fit keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from selfrag.conversation.history import Entry
from selfrag.errors import InputError
from selfrag.evaluation.calibrate import FEW, NEUTRAL, Fit, Held, cross_validated, fit_abstention, judgements
from selfrag.evaluation.temperatures import Example, Scaling

Json = Mapping[str, Any]
_METRICS = ("answerability, macro-F1", "answer rate", "accuracy of what is answered")


def examples(entries: Sequence[Entry], model: str) -> tuple[list[Example], Scaling, Counter[str]]:
    """The rated answers of ``model``, the scaling of the newest of them, and why others were left out, counted."""
    mine = [entry for entry in entries if entry.document["model"] == model]
    left = Counter({"answered by another model": len(entries) - len(mine)})
    kept = scaling(mine[-1]) if mine else Scaling()
    found = []
    for entry in mine:
        example = _example(entry)
        if scaling(entry) != kept:
            left["answered at other temperatures"] += 1
        elif not example.isrel:
            left["answered without evidence"] += 1
        else:
            found.append(example)
    return found, kept, +left


def scaling(entry: Entry) -> Scaling:
    reflector = entry.conditions.get("reflector", {})
    return Scaling(reflector.get("temperatures", {}), reflector.get("biases", {}))


def _example(entry: Entry) -> Example:
    worth = (entry.verdict == "good") == (entry.document["status"] == "answered")
    isrel, issup, isuse = judgements(entry.document["segments"])
    return Example(
        worth,
        worth,
        right_alone=None,
        p_retrieve=None,
        isrel=isrel,
        issup=issup,
        isuse=isuse,
        confidence=entry.document.get("confidence"),
    )


def fit(found: Sequence[Example], max_risk: float | None = None) -> Fit:
    """Thresholds of abstention. Raises InputError if the verdicts do not separate good answers from bad ones."""
    right = sum(e.right for e in found)
    if not 0 < right < len(found):
        what = "there are no rated answers" if not found else f"all {len(found)} rated answers were judged alike"
        raise InputError(f"{what}: thresholds need good and bad ones", "selfrag feedback ID good|bad")
    notes = ["Retrieve: feedback does not say whether evidence was needed: its threshold stays as it is"]
    if len(found) < FEW:
        notes.append(f"{len(found)} answers are few: other ones may give quite other thresholds; {FEW} and more say something")
    return Fit(Scaling(), fit_abstention(found, Scaling(), max_risk), tuple(notes))


def crossed(found: Sequence[Example], before: Mapping[str, float], max_risk: float | None = None) -> Held:
    """``before`` holds the thresholds of now."""

    def refit(training: Sequence[Example]) -> Fit:
        return Fit(Scaling(), fit_abstention(training, Scaling(), max_risk))

    return [row for row in cross_validated(found, {**NEUTRAL, **before}, refit) if row[0] in _METRICS]
