"""A temperature for each reflection group, which calibrates its probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfrag.algorithm.reflection import FULLY, GROUPS, ISSUP, ISUSE, PARTIALLY, UTILITY_WEIGHTS

Floats = NDArray[np.float64]
TEMPERATURES = np.geomspace(0.2, 5, 81)
LEAST = 20
"""Labelled examples below which no temperature is fitted."""


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled question. Distributions are those of temperature 1; ``passages`` pairs ISREL with being gold."""

    answerable: bool
    right: bool
    right_alone: bool | None
    p_retrieve: float | None
    isrel: tuple[float, ...] = ()
    issup: tuple[tuple[float, ...], ...] = ()
    isuse: tuple[float, ...] = ()
    passages: tuple[tuple[float, bool], ...] = ()


def tempered(distributions: Floats, temperature: float) -> Floats:
    """Distributions of shape (n, tokens) at another temperature."""
    logs = np.log(np.clip(distributions, 1e-12, 1.0)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def pair(probability: Sequence[float]) -> Floats:
    values = np.array(probability, dtype=np.float64).reshape(-1)
    return np.stack([values, 1 - values], axis=1)


def expected(weights: Mapping[str, float], group: Sequence[str]) -> Callable[[Floats], Floats]:
    return lambda distributions: np.asarray(distributions @ np.array([weights.get(token, 0.0) for token in group]))


READ: Mapping[str, Callable[[Floats], Floats]] = {
    "Retrieve": lambda d: d[:, 0],
    "ISREL": lambda d: d[:, 0],
    "ISSUP": expected({FULLY: 1.0, PARTIALLY: 0.5}, ISSUP),
    "ISUSE": expected({t: (w + 1) / 2 for t, w in zip(ISUSE, UTILITY_WEIGHTS, strict=True)}, ISUSE),
}
"""The probability, in [0, 1], that a group's distributions represent."""


def labelled(found: Sequence[Example], group: str) -> tuple[Floats, Floats]:
    """Distributions of ``group`` with their target: a passage is gold, an answer is right, retrieval is needed."""
    if group == "ISREL":
        pairs = [item for e in found for item in e.passages]
        return pair([p for p, _ in pairs]), np.array([hit for _, hit in pairs], dtype=np.float64)
    if group == "Retrieve":
        asked = [e for e in found if e.answerable and e.right_alone is not None and e.p_retrieve is not None]
        return pair([e.p_retrieve or 0.0 for e in asked]), np.array([not e.right_alone for e in asked], dtype=np.float64)
    rows = [(d, e.right) for e in found for d in (e.issup if group == "ISSUP" else (e.isuse,)) if d]
    values = np.array([d for d, _ in rows], dtype=np.float64).reshape(len(rows), len(GROUPS[group]))
    return values, np.array([right for _, right in rows], dtype=np.float64)


def log_loss(probability: Floats, label: Floats) -> float:
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return float(-(label * np.log(p) + (1 - label) * np.log(1 - p)).mean())


def fit_temperature(found: Sequence[Example], group: str) -> tuple[float, str | None]:
    """The temperature with the least log-loss; 1, with the reason, if there is nothing to fit it on."""
    values, label = labelled(found, group)
    if len(label) < LEAST or not 0 < label.sum() < len(label):
        return 1.0, f"{group}: {len(label)} labelled examples, {int(label.sum())} of them positive: its temperature stays 1"
    losses = [log_loss(READ[group](tempered(values, t)), label) for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))]), None
