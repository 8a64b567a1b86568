"""Thresholds of retrieval and abstention, fitted on labelled scores. Pure: arrays in, thresholds out.

Every fit goes through here: `selfrag calibrate` (labelled questions or a person's verdicts), `selfrag train eval` and the
benchmarks differ in where their scores come from and in what they want of a threshold, not in how one is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Thresholds = tuple[float, ...]
"""Of ISREL and ISSUP, and of the utility where that is given, too. What lies below one of them is abstained from."""


def between(values: Floats, most: int = 60) -> Floats:
    """Candidate thresholds: 0, and the middles between neighbouring values (at most ``most`` of them, by rank)."""
    distinct = np.unique(values)
    middles = (distinct[1:] + distinct[:-1]) / 2
    if len(middles) > most:
        middles = middles[np.linspace(0, len(middles) - 1, most).astype(int)]
    return np.concatenate([[0.0], middles])


def keeps(scores: NDArray[Any], thresholds: Thresholds) -> Booleans:
    """``scores``: (n, 2) of ISREL and ISSUP, or (n, 3); true where none is below its threshold."""
    return np.asarray((scores >= np.array(thresholds)).all(axis=1))


def best(candidates: Iterable[Thresholds], value: Callable[[Thresholds], float]) -> Thresholds:
    """The candidate of the largest value; of equals (within 1e-12) the earliest. (0, 0) without candidates."""
    most = -np.inf
    chosen: Thresholds = (0.0, 0.0)
    for thresholds in candidates:
        if (found := value(thresholds)) > most + 1e-12:
            most, chosen = found, thresholds
    return chosen


def fit_abstention(
    scores: NDArray[Any], good: Booleans, right: Booleans | None = None, max_risk: float | None = None
) -> Thresholds:
    """The thresholds of the best macro-F1 of answering what is ``good`` and abstaining from the rest; with ``max_risk`` those
    that answer most while at most this share of the answers is not ``right``. Of equals the lowest.

    ``scores``: (n, 1) of any score, (n, 2) of ISREL and ISSUP, or (n, 3) with the utility in [0, 1]; ``good`` and ``right``:
    (n,), ``right`` as ``good`` if it is not given.
    """
    wrong = ~(good if right is None else right)

    def value(thresholds: Thresholds) -> float:
        keep = keeps(scores, thresholds)
        if max_risk is None:
            return macro_f1(keep, good)
        return float(keep.mean()) if keep.any() and wrong[keep].mean() <= max_risk else 0.0

    most = 60 if scores.shape[1] <= 2 else 20
    return best((tuple(map(float, each)) for each in product(*(between(column, most) for column in scores.T))), value)


def fit_retrieval(p: Floats, right: Floats, right_alone: Floats, now: float) -> float | None:
    """The retrieval threshold under which most answers are right; of equals the one nearest to ``now``, so that nothing changes
    without a reason. None without examples.

    All of shape (n,): the probability that evidence is needed, and whether the answer is right with and without evidence.
    """
    if not len(p):
        return None
    candidates = np.append(between(p), now)
    found = np.array([np.where(p > t, right, right_alone).mean() for t in candidates])
    equals = candidates[np.isclose(found, found.max())]
    return float(equals[np.abs(equals - now).argmin()])


def f1(said: Booleans, true: Booleans) -> float:
    """2TP / (2TP + FP + FN); 1 where nothing is true and nothing was said to be."""
    total = float(said.sum()) + float(true.sum())
    return 2 * float((said & true).sum()) / total if total else 1.0


def macro_f1(keep: Booleans, good: Booleans) -> float:
    """The mean of the F1 of answering what should be answered and of abstaining from the rest."""
    return (f1(keep, good) + f1(~keep, ~good)) / 2
