"""How far a confidence can be trusted: calibration, ranking, and risk against coverage. Arrays of one number per question.

``confidence`` lies in [0, 1], ``correct`` is 0 or 1. An undefined metric is None, never NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """The questions whose confidence lies in [low, high): their number, mean confidence and share of right answers."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(confidence: Floats, correct: Floats) -> list[Bin]:
    """The reliability table over ten bins of equal width, without empty ones."""
    bins = 10
    which = np.minimum((np.clip(confidence, 0, 1) * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    said, right = np.bincount(which, confidence, bins), np.bincount(which, correct, bins)
    return [Bin(i / bins, (i + 1) / bins, int(n), float(said[i] / n), float(right[i] / n)) for i, n in enumerate(counts) if n]


def ece(confidence: Floats, correct: Floats) -> float | None:
    """Expected calibration error: the mean gap between confidence and accuracy over the bins, weighted by their size.

    ``correct`` may lie between 0 and 1, as a utility does.
    """
    if not len(confidence):
        return None
    return sum(b.count * abs(b.confidence - b.accuracy) for b in reliability(confidence, correct)) / len(confidence)


def ranks(values: NDArray[Any]) -> Floats:
    """The rank of each value, 1 for the smallest; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse], dtype=np.float64)


def auroc(confidence: Floats, correct: Floats) -> float | None:
    """The chance that a right answer is more confident than a wrong one, ties counting half; None if all are of one kind."""
    right = int(correct.sum())
    wrong = len(correct) - right
    if not right or not wrong:
        return None
    return float((ranks(confidence)[correct > 0].sum() - right * (right + 1) / 2) / (right * wrong))


def risk_coverage(confidence: Floats, correct: Floats) -> tuple[Floats, Floats]:
    """Coverage and risk when only the most confident 1, 2, … n questions are answered; ties share their errors evenly."""
    _, inverse, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = (np.bincount(inverse, 1 - correct, len(counts)) / counts)[np.sort(inverse)]
    answered = np.arange(1, len(wrong) + 1)
    return answered / max(1, len(wrong)), np.cumsum(wrong) / answered


def aurc(confidence: Floats, correct: Floats) -> float | None:
    """The area under the risk–coverage curve: the mean risk over all coverages. Smaller is better."""
    return float(risk_coverage(confidence, correct)[1].mean()) if len(confidence) else None
