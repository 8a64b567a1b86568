"""Calibrates a model's probabilities: temperature and bias of each reflection group, and every threshold that is read of them.

Works on two runs over labelled questions, both without abstention: one that always retrieved (threshold 0, so that the
probability of retrieving is known) and, for the retrieval threshold, one that never did. What is fitted comes on top of the
scaling that the runs had. Other scalings may rank a question's candidates differently, which only a new run shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrag.algorithm.reflection import GROUPS, ISSUP, ISUSE
from selfrag.errors import InputError
from selfrag.evaluation import thresholds
from selfrag.evaluation.curves import ece
from selfrag.evaluation.outcome import outcome
from selfrag.evaluation.temperatures import (
    CONFIDENCE,
    Example,
    Floats,
    Scaling,
    fit_scaling,
    labelled,
    log_loss,
    relevance,
    retrieval,
)

Json = Mapping[str, Any]
NEUTRAL = {"retrieve": 0.2, "isrel": 0.0, "issup": 0.0, "isuse": -1.0, "confidence": 0.0}
FEW = 50


@dataclass(frozen=True, slots=True)
class Fit:
    """``notes`` says what could not be fitted, and why."""

    scaling: Scaling = field(default_factory=Scaling)
    thresholds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def examples(evidence: Sequence[Json], alone: Mapping[str, Json]) -> list[Example]:
    """The labelled questions of the two runs' rows; ``alone`` maps ids to the rows of the run without retrieval."""
    return [_example(row, alone.get(str(row["id"]))) for row in evidence if row["status"] != "error" and _labelled(row)]


def _labelled(row: Json) -> bool:
    return outcome(row).gold.answerable is not None


def _example(row: Json, other: Json | None) -> Example:
    found = outcome(row)
    isrel, issup, isuse = judgements(row["segments"])
    scores = [passage["isrel"] for passage in row["passages"]]
    pairs = zip(scores, found.hits or (), strict=False)
    return Example(
        answerable=bool(found.gold.answerable),
        right=bool(found.accuracy),
        right_alone=None if other is None or other["status"] == "error" else bool(outcome(other).accuracy),
        p_retrieve=found.p_retrieve,
        isrel=isrel,
        issup=issup,
        isuse=isuse,
        passages=tuple((score, hit) for score, hit in pairs if score is not None and found.gold.answerable),
        confidence=row.get("confidence"),
    )


def judgements(segments: Sequence[Json]) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...], tuple[float, ...]]:
    """ISREL and the distribution of ISSUP of each segment that was written from evidence, and the last distribution of ISUSE."""
    judged = [s["distributions"] for s in segments if "ISREL" in s["distributions"]]
    isrel = tuple(d["ISREL"]["[Relevant]"] for d in judged)
    issup = tuple(tuple(d["ISSUP"][t] for t in ISSUP) if "ISSUP" in d else (0.0, 0.0, 1.0) for d in judged)
    useful = [s["distributions"]["ISUSE"] for s in segments if "ISUSE" in s["distributions"]]
    return isrel, issup, tuple(useful[-1][t] for t in ISUSE) if useful else ()


# --- thresholds ----------------------------------------------------------------------------------------------------------------


def evidence(found: Sequence[Example], scaling: Scaling) -> Floats:
    """Mean ISREL and ISSUP of each example, and its utility in [0, 1], shape (n, 3); 1 where an example has none."""
    rows = []
    for e in found:
        isrel = scaling.read("ISREL", relevance(e.isrel)).mean() if e.isrel else 1.0
        issup = scaling.read("ISSUP", np.array(e.issup)).mean() if e.issup else 1.0
        isuse = scaling.read("ISUSE", np.array([e.isuse]))[0] if e.isuse else 1.0
        rows.append((float(isrel), float(issup), float(isuse)))
    return np.array(rows, dtype=np.float64).reshape(len(rows), 3)


def limits(found: Mapping[str, float]) -> tuple[float, float, float]:
    """The thresholds of abstention on the scales of `evidence`."""
    return found["isrel"], found["issup"], (found["isuse"] + 1) / 2


def retrieving(found: Sequence[Example], scaling: Scaling) -> tuple[Floats, Floats, Floats]:
    """The probability of retrieving, and whether the answer is right with and without it, where all three are known."""
    asked = [e for e in found if e.answerable and e.right_alone is not None and e.p_retrieve is not None]
    return (
        scaling.read("Retrieve", retrieval([e.p_retrieve or 0.0 for e in asked])),
        np.array([e.right for e in asked], dtype=np.float64),
        np.array([bool(e.right_alone) for e in asked], dtype=np.float64),
    )


def fit_retrieve(found: Sequence[Example], scaling: Scaling, now: float = NEUTRAL["retrieve"]) -> float | None:
    """The threshold under which most answers are right, ``now`` if all are equal; None without both runs."""
    return thresholds.fit_retrieval(*retrieving(found, scaling), now)


def worth_answering(found: Sequence[Example]) -> NDArray[np.bool_]:
    """The answerable questions; if all are answerable, the correctly answered ones."""
    mixed = any(not e.answerable for e in found)
    return np.array([e.answerable if mixed else e.right for e in found], dtype=bool)


def fit_abstention(found: Sequence[Example], scaling: Scaling, max_risk: float | None) -> dict[str, float]:
    """Thresholds of ISREL, ISSUP and ISUSE, so scaled; then that of the confidence, among what they keep."""
    right = np.array([e.right for e in found], dtype=bool)
    good, scores = worth_answering(found), evidence(found, scaling)
    isrel, issup, use = thresholds.fit_abstention(scores, good, right, max_risk)
    kept = thresholds.keeps(scores, (isrel, issup, use))
    sure = np.where(kept, scaling.confident(found), -1.0)  # what the others give up stays given up
    (least,) = thresholds.fit_abstention(sure[:, None], good, right, max_risk)
    return {"isrel": isrel, "issup": issup, "isuse": 2 * use - 1, "confidence": least}


def fit(found: Sequence[Example], now: Mapping[str, float] = NEUTRAL, max_risk: float | None = None) -> Fit:
    """``now`` are the thresholds that hold: "retrieve" is kept where all are equal, "found", "reconsider" and "join", which
    decide on work and not on answers, move with the scale of ISREL or ISUSE. InputError if no question is labelled."""
    if not found:
        raise InputError('no question is labelled with "answers" or "unanswerable"', "add them to the rows of the file")
    fitted = {group: fit_scaling(found, group) for group in (*GROUPS, CONFIDENCE) if group != "ISSUP"}
    scaling = Scaling({group: each[0] for group, each in fitted.items()}, {group: each[1] for group, each in fitted.items()})
    notes = [note for _, _, note in fitted.values() if note]
    notes.append("ISSUP: right answers do not say whether the passage supports them: it stays as it is")
    found_thresholds = fit_abstention(found, scaling, max_risk)
    if "found" in now:
        found_thresholds["found"] = scaling.relevance(now["found"])
    found_thresholds |= {name: scaling.utility(now[name]) for name in ("reconsider", "join") if name in now}
    if (threshold := fit_retrieve(found, scaling, now["retrieve"])) is None:
        notes.append("Retrieve: no run without retrieval to compare with: its threshold stays as it is")
    else:
        found_thresholds["retrieve"] = threshold
    if len(found) < FEW:
        notes.append(f"{len(found)} questions are few: other ones may give quite other thresholds; {FEW} and more say something")
    return Fit(scaling, found_thresholds, tuple(notes))


# --- before and after ----------------------------------------------------------------------------------------------------------

Held = list[tuple[str, float | None, float | None]]
"""Metrics on held-out folds: (name, before, after)."""


def crossed(found: Sequence[Example], before: Mapping[str, float], folds: int = 5, max_risk: float | None = None) -> Held:
    """``before`` are the thresholds that hold now."""
    old = {**NEUTRAL, **before}
    return cross_validated(found, old, lambda training: fit(training, old, max_risk), folds)


def cross_validated(
    found: Sequence[Example], before: Mapping[str, float], refit: Callable[[Sequence[Example]], Fit], folds: int = 5
) -> Held:
    """As `crossed`, with ``refit`` as the fit; a threshold that it leaves out stays as it is."""
    where = np.random.default_rng(0).permutation(len(found)) % folds
    old = Fit(thresholds=dict(before))
    was, now = [], []
    for number in range(min(folds, len(found))):
        training = [e for e, f in zip(found, where, strict=True) if f != number]
        fitted = refit(training) if training else old
        new = Fit(fitted.scaling, {**before, **fitted.thresholds})
        held = [e for e, f in zip(found, where, strict=True) if f == number]
        was += [(e, old) for e in held]
        now += [(e, new) for e in held]
    first, second = metrics(was), metrics(now)
    return [(name, first[name], second[name]) for name in first]


def metrics(pairs: Sequence[tuple[Example, Fit]]) -> dict[str, float | None]:
    """What the fits would have done to their examples."""
    found = [e for e, _ in pairs]
    keep = np.array([thresholds.keeps(evidence([e], f.scaling), limits(f.thresholds))[0] for e, f in pairs])
    keep &= np.array([f.scaling.confident([e])[0] >= f.thresholds["confidence"] for e, f in pairs])
    right, good = np.array([e.right for e in found]), worth_answering(found)
    policy = [(retrieving([e], f.scaling), f.thresholds["retrieve"]) for e, f in pairs]
    known = [(p[0] > t, w[0], a[0]) for (p, w, a), t in policy if len(p)]
    table: dict[str, float | None] = {
        "answerability, macro-F1": thresholds.macro_f1(keep, good),
        "answer rate": float(keep.mean()),
        "accuracy of what is answered": float(right[keep].mean()) if keep.any() else None,
        "accuracy under the retrieval threshold": float(np.mean([w if yes else a for yes, w, a in known])) if known else None,
        "retrieval frequency": float(np.mean([yes for yes, _, _ in known])) if known else None,
    }
    for group in (*GROUPS, CONFIDENCE):
        parts = [(labelled([e], group), f.scaling) for e, f in pairs]
        said = [scaling.read(group, d) for (d, label), scaling in parts if len(label)]
        label = [label for (_, label), _ in parts if len(label)]
        table[f"{group} calibration error"] = ece(np.concatenate(said), np.concatenate(label)) if said else None
        table[f"{group} log-loss"] = log_loss(np.concatenate(said), np.concatenate(label)) if said else None
    return table
