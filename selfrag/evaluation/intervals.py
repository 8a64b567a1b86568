"""Bootstrap intervals and paired tests. All draws are seeded, so that a report is reproducible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[..., float | None]
RESAMPLES, SEED, LEVEL = 1000, 0, 0.95
BLOCK = 4_000_000
"""Numbers that are held at once while resampling."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A metric, its percentile bootstrap interval (95 %), and the number of questions it rests on.

    ``value`` is None, and ``note`` says why, where the metric has an empty denominator.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str | None = None


def draws(count: int, resamples: int = RESAMPLES) -> Iterator[NDArray[np.int64]]:
    """How often each of ``count`` questions occurs in each resample: blocks of shape (resamples, count)."""
    random = np.random.default_rng(SEED)
    share = np.full(count, 1 / count)
    step = max(1, BLOCK // count)
    for begin in range(0, resamples, step):
        yield random.multinomial(count, share, size=min(step, resamples - begin))


def ratios(top: Floats, bottom: Floats) -> list[Interval]:
    """Σ top / Σ bottom for each column, with its interval. ``top`` and ``bottom`` have shape (questions, metrics).

    A mean is a ratio whose bottom is 1 where the question counts; precision, recall and F1 are ratios too.
    """
    if not len(top):
        return [Interval(None) for _ in range(top.shape[1])]
    sums = np.concatenate([np.stack([w @ top, w @ bottom]) for w in draws(len(top))], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = sums[0] / sums[1]
    return [_summary(top[:, i].sum(), bottom[:, i], spread[:, i]) for i in range(top.shape[1])]


def _summary(top: float, bottom: Floats, spread: Floats) -> Interval:
    total, count = float(bottom.sum()), int((bottom != 0).sum())
    return Interval(float(top / total), *_limits(spread), count) if total else Interval(None)


def _limits(spread: Floats) -> tuple[float | None, float | None]:
    valid = spread[np.isfinite(spread)]
    if len(valid) < len(spread) / 2:
        return None, None
    tail = (1 - LEVEL) / 2
    return float(np.quantile(valid, tail)), float(np.quantile(valid, 1 - tail))


def statistic(function: Statistic, *arrays: Floats) -> Interval:
    """Any metric of arrays over questions, with its interval; resamples for which it does not exist are left out."""
    count = len(arrays[0])
    value = function(*arrays) if count else None
    if value is None:
        return Interval(None)
    random = np.random.default_rng(SEED)
    found = []
    for _ in range(RESAMPLES):
        drawn = random.integers(0, count, count)
        again = function(*(array[drawn] for array in arrays))
        found.append(np.nan if again is None else again)
    return Interval(value, *_limits(np.array(found)), count)


def paired(top_a: Floats, bottom_a: Floats, top_b: Floats, bottom_b: Floats) -> Interval:
    """The difference, second minus first, of one ratio in two runs over the same questions, drawn together."""
    if not bottom_a.sum() or not bottom_b.sum():
        return Interval(None)
    value = float(top_b.sum() / bottom_b.sum() - top_a.sum() / bottom_a.sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.concatenate([w @ top_b / (w @ bottom_b) - w @ top_a / (w @ bottom_a) for w in draws(len(top_a))])
    return Interval(value, *_limits(spread), int(((bottom_a != 0) & (bottom_b != 0)).sum()))


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p of McNemar's test from the two discordant counts; 1 if both are 0."""
    count, fewer = only_first + only_second, min(only_first, only_second)
    ways = total = 1
    for i in range(fewer):
        ways = ways * (count - i) // (i + 1)
        total += ways
    return min(1.0, 2 * total / 2**count) if count else 1.0
