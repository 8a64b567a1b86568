from __future__ import annotations

import numpy as np
import pytest

from selfrag.evaluation.thresholds import best, f1, fit_abstention, fit_retrieval, keeps, macro_f1


def test_abstention_lies_between_what_should_and_should_not_be_answered() -> None:
    """The first unanswerable question has a low ISREL, the second a low ISSUP: each threshold lies between its scores."""
    scores = np.array([[0.9, 0.8], [0.8, 0.9], [0.2, 0.9], [0.9, 0.1]])
    isrel, issup = fit_abstention(scores, np.array([True, True, False, False]))
    assert 0.2 < isrel < 0.8
    assert 0.1 < issup < 0.8
    assert keeps(scores, (isrel, issup)).tolist() == [True, True, False, False]


def test_a_risk_that_no_threshold_keeps_leaves_both_at_zero() -> None:
    """Where every answer is wrong, no threshold is better than none."""
    scores, none = np.array([[0.9, 0.9], [0.1, 0.1]]), np.array([False, False])
    assert fit_abstention(scores, np.array([True, False]), none, 0.1) == (0.0, 0.0)


def test_of_equal_candidates_the_earliest_is_taken() -> None:
    """A larger value wins; an equal one does not replace what came before it."""
    assert best([(0.0, 0.0), (0.5, 0.0), (0.7, 0.0)], lambda pair: min(pair[0], 0.5)) == (0.5, 0.0)
    assert best([], lambda _: 1.0) == (0.0, 0.0)


def test_retrieval_needs_examples() -> None:
    """Without examples there is no threshold; with them it separates where evidence helps from where it hurts."""
    none = np.zeros(0)
    assert fit_retrieval(none, none, none, 0.5) is None
    assert fit_retrieval(np.array([0.2, 0.8]), np.array([0.0, 1.0]), np.array([1.0, 0.0]), 0.1) == pytest.approx(0.5)


def test_f1_of_nothing() -> None:
    """Nothing said where nothing is true is perfect; nothing said where something is true is worth 0."""
    none, both = np.array([False, False]), np.array([True, True])
    assert f1(none, none) == 1.0
    assert f1(none, both) == 0.0
    assert macro_f1(both, both) == 1.0
