"""A temperature and a bias for each reflection group, which calibrate its probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from selfrag.algorithm.reflection import GROUPS, ISREL, RELEVANT, RETRIEVAL, RETRIEVE, WORTH
from selfrag.types import ConfidenceWeights

Floats = NDArray[np.float64]
TEMPERATURES = np.geomspace(0.2, 5, 41)
BIASES = np.linspace(-4, 4, 81)
CONFIDENCE = "confidence"
"""Scaled as a group of two tokens is."""
LEAST = 20
"""Labelled examples below which nothing is fitted."""


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled question; ``passages`` pairs ISREL with being gold. ``confidence`` is the answer's, None without evidence."""

    answerable: bool
    right: bool
    right_alone: bool | None
    p_retrieve: float | None
    isrel: tuple[float, ...] = ()
    issup: tuple[tuple[float, ...], ...] = ()
    isuse: tuple[float, ...] = ()
    passages: tuple[tuple[float, bool], ...] = ()
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Scaling:
    """Temperatures and biases by group, 1 and 0 where they are missing."""

    temperatures: Mapping[str, float] = field(default_factory=dict)
    biases: Mapping[str, float] = field(default_factory=dict)

    def read(self, group: str, distributions: Floats) -> Floats:
        """The probability in [0, 1] that distributions of shape (n, tokens) stand for, once scaled."""
        return scaled(group, distributions, self.temperatures.get(group, 1.0), self.biases.get(group, 0.0))

    def after(self, first: Scaling) -> Scaling:
        """The scaling that does what ``first`` does, and then this one."""
        groups = {*first.temperatures, *first.biases, *self.temperatures, *self.biases}
        temperatures, biases = {}, {}
        for group in groups:
            by = self.temperatures.get(group, 1.0)
            temperatures[group] = first.temperatures.get(group, 1.0) * by
            biases[group] = first.biases.get(group, 0.0) / by + self.biases.get(group, 0.0)
        return Scaling(temperatures, biases)

    def confident(self, found: Sequence[Example]) -> Floats:
        """The confidence of each answer, so scaled; 1 where it has none."""
        told = self.read(CONFIDENCE, relevance([e.confidence or 0.0 for e in found]))
        return np.where([e.confidence is None for e in found], 1.0, told)

    def weights(self, now: ConfidenceWeights) -> ConfidenceWeights:
        """Weights that give, of critiques so scaled, the confidence that ``now`` gave before, so scaled. Exact for ISREL, and for
        an ISUSE whose distribution lies on the lowest and the highest utility."""
        isrel, isuse = (getattr(now, name) * self.temperatures.get(name.upper(), 1.0) for name in ("isrel", "isuse"))
        bias = now.bias - isrel * self.biases.get("ISREL", 0.0) - isuse * self.biases.get("ISUSE", 0.0)
        by = self.temperatures.get(CONFIDENCE, 1.0)
        bias = bias / by + self.biases.get(CONFIDENCE, 0.0)
        return ConfidenceWeights(bias, isrel / by, isuse / by, now.similarity / by, now.centre)

    def relevance(self, isrel: float) -> float:
        """What becomes of an ISREL in [0, 1]; 0 and 1 stay."""
        return (self._moved("ISREL", 2 * isrel - 1) + 1) / 2

    def utility(self, isuse: float) -> float:
        """What becomes of an ISUSE in [-1, 1] whose distribution lies on the lowest and the highest utility; -1 and 1 stay."""
        return self._moved("ISUSE", isuse)

    def _moved(self, group: str, value: float) -> float:
        if abs(value) == 1:
            return value
        odds = math.log((1 + value) / (1 - value)) / self.temperatures.get(group, 1.0) + self.biases.get(group, 0.0)
        return math.tanh(odds / 2)


def scaled(group: str, distributions: Floats, temperature: float, bias: float) -> Floats:
    group = "ISREL" if group == CONFIDENCE else group
    worth = np.array([WORTH[group].get(token, 0.0) for token in GROUPS[group]])
    logs = np.log(np.clip(distributions, 1e-12, 1.0)) / temperature + bias * worth
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers @ worth / powers.sum(axis=1))


def two(group: Sequence[str], token: str, probability: Sequence[float]) -> Floats:
    """Distributions over ``group``: ``token`` has the probability, the group's first other token the rest."""
    values = np.array(probability, dtype=np.float64).reshape(-1)
    found = np.zeros((len(values), len(group)))
    found[:, next(i for i, other in enumerate(group) if other != token)] = 1 - values
    found[:, group.index(token)] = values
    return found


def relevance(probability: Sequence[float]) -> Floats:
    return two(ISREL, RELEVANT, probability)


def retrieval(probability: Sequence[float]) -> Floats:
    return two(RETRIEVE, RETRIEVAL, probability)


def labelled(found: Sequence[Example], group: str) -> tuple[Floats, Floats]:
    """Distributions of ``group`` with their target: a passage is gold, an answer is right, retrieval is needed. ISSUP has none:
    a right answer may lack support, and a wrong one may have it."""
    if group == "ISREL":
        pairs = [item for e in found for item in e.passages]
        return relevance([p for p, _ in pairs]), np.array([hit for _, hit in pairs], dtype=np.float64)
    if group == CONFIDENCE:
        told = [e for e in found if e.confidence is not None]
        return relevance([e.confidence or 0.0 for e in told]), np.array([e.right for e in told], dtype=np.float64)
    if group == "Retrieve":
        asked = [e for e in found if e.answerable and e.right_alone is not None and e.p_retrieve is not None]
        return retrieval([e.p_retrieve or 0.0 for e in asked]), np.array([not e.right_alone for e in asked], dtype=np.float64)
    rows = [(e.isuse, e.right) for e in found if e.isuse and group == "ISUSE"]
    values = np.array([d for d, _ in rows], dtype=np.float64).reshape(len(rows), len(GROUPS[group]))
    return values, np.array([right for _, right in rows], dtype=np.float64)


def log_loss(probability: Floats, label: Floats) -> float:
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return float(-(label * np.log(p) + (1 - label) * np.log(1 - p)).mean())


def fit_scaling(found: Sequence[Example], group: str) -> tuple[float, float, str | None]:
    """Temperature and bias with the least log-loss (Platt 1999, with his targets); 1 and 0, with the reason, if there is nothing
    to fit them on. Retrieve has no bias: labelled questions nearly all need evidence, what a person types need not."""
    values, label = labelled(found, group)
    positive = int(label.sum())
    if len(label) < LEAST or not 0 < positive < len(label):
        return 1.0, 0.0, f"{group}: {len(label)} labelled examples, {positive} of them positive: it stays as it is"
    target = np.where(label > 0, (positive + 1) / (positive + 2), 1 / (len(label) - positive + 2))
    grid = list(product(TEMPERATURES, BIASES if group != "Retrieve" else (0.0,)))
    losses = [log_loss(scaled(group, values, t, b), target) for t, b in grid]
    temperature, bias = grid[int(np.argmin(losses))]
    return float(temperature), float(bias), None
