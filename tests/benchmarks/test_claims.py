"""Balanced accuracy of support."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import claims


def test_balanced_accuracy_weighs_both_kinds_alike() -> None:
    """Always saying "supported" is worth one half, however many claims are; there is none for claims of one kind."""
    supported = np.array([1.0, 1.0, 1.0, 0.0])
    assert claims.balanced_accuracy(np.ones(4), supported) == 0.5
    assert claims.balanced_accuracy(np.array([0.9, 0.9, 0.1, 0.2]), supported) == pytest.approx((2 / 3 + 1) / 2)
    assert claims.balanced_accuracy(np.ones(2), np.ones(2)) is None


def test_the_best_threshold_is_an_upper_limit() -> None:
    """Scores that rank well but lie low are perfect at a threshold of their own, and worthless at one half."""
    score, supported = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 0.0, 1.0, 1.0])
    assert claims.balanced_accuracy(score, supported) == 0.5
    assert claims.best_balanced_accuracy(score, supported) == 1.0
    assert claims.by_set(["a"] * 4, score, supported)["a"] == (4, 0.5, 1.0, 1.0)


def test_overlap_counts_content_words() -> None:
    """The share of the claim's content words in the passage."""
    assert claims.word_overlap("The tower is tall.", "A tall tower") == 1.0
    assert claims.word_overlap("The tower is red.", "A tall tower") == 0.5
    assert claims.word_overlap("It is.", "A tall tower") == 0.0
