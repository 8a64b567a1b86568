"""Fits abstention thresholds on rated answers instead of questions with known answers.

Answering was right if an answer is rated good or an abstention is rated bad. Scores come from the history, at the temperatures of
the answers, which the fit keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from selfrag.conversation.history import Entry
from selfrag.errors import InputError
from selfrag.evaluation.calibrate import FEW, Fit, cross_validated, fit_abstention, judgements
from selfrag.evaluation.temperatures import Example

Json = Mapping[str, Any]
_METRICS = ("answerability, macro-F1", "answer rate", "accuracy of what is answered")


def examples(entries: Sequence[Entry], model: str) -> tuple[list[Example], dict[str, float], Counter[str]]:
    """The rated answers of ``model``, the temperatures of the newest of them, and why others were left out, counted."""
    mine = [entry for entry in entries if entry.document["model"] == model]
    left = Counter({"answered by another model": len(entries) - len(mine)})
    kept = temperatures(mine[-1]) if mine else {}
    found = []
    for entry in mine:
        isrel, issup = judgements(entry.document["segments"])
        if temperatures(entry) != kept:
            left["answered at other temperatures"] += 1
        elif not isrel:
            left["answered without evidence"] += 1
        else:
            found.append(_example(entry, isrel, issup))
    return found, kept, +left


def temperatures(entry: Entry) -> dict[str, float]:
    return dict(entry.conditions.get("reflector", {}).get("temperatures", {}))


def _example(entry: Entry, isrel: tuple[float, ...], issup: tuple[tuple[float, ...], ...]) -> Example:
    worth = (entry.verdict == "good") == (entry.document["status"] == "answered")
    return Example(answerable=worth, right=worth, right_alone=None, p_retrieve=None, isrel=isrel, issup=issup)


def fit(found: Sequence[Example], kept: Mapping[str, float], max_risk: float | None = None) -> Fit:
    """Thresholds of ISREL and ISSUP. Raises InputError if the verdicts do not separate good answers from bad ones."""
    right = sum(e.right for e in found)
    if not 0 < right < len(found):
        what = "there are no rated answers" if not found else f"all {len(found)} rated answers were judged alike"
        raise InputError(f"{what}: thresholds need good and bad ones", "selfrag feedback ID good|bad")
    notes = ["Retrieve: feedback does not say whether evidence was needed: its threshold stays as it is"]
    if len(found) < FEW:
        notes.append(f"{len(found)} answers are few: other ones may give quite other thresholds; {FEW} and more say something")
    isrel, issup = fit_abstention(found, {}, max_risk)
    return Fit(dict(kept), {"isrel": isrel, "issup": issup}, tuple(notes))


def crossed(
    found: Sequence[Example], before: Mapping[str, float], max_risk: float | None = None
) -> list[tuple[str, float | None, float | None]]:
    """Metrics on held-out folds: (name, before, after). ``before`` holds the thresholds of now."""

    def refit(training: Sequence[Example]) -> Fit:
        return Fit({}, dict(zip(("isrel", "issup"), fit_abstention(training, {}, max_risk), strict=True)))

    return [row for row in cross_validated(found, {"retrieve": 0.0, **before}, refit) if row[0] in _METRICS]
