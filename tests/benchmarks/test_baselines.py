"""Baselines that answer as many questions as a run."""

from __future__ import annotations

import pytest

from benchmarks.baselines import Attempt, at_coverage, attempted, best_sentence, margin
from tests.rows import passage, row


def attempts(*pairs: tuple[float, bool]) -> list[Attempt]:
    return [Attempt(str(i), confidence, right) for i, (confidence, right) in enumerate(pairs)]


def test_the_most_confident_are_answered() -> None:
    """Only as many as there is room for count, the most confident first; none is answered twice or by order of the file."""
    found = attempts((0.1, True), (0.9, False), (0.5, True), (0.7, True))
    assert at_coverage(found, 2).tolist() == [0, 0, 0, 1]
    assert at_coverage(found, 3).tolist() == [0, 0, 1, 1]
    assert at_coverage(found, 9).tolist() == [1, 0, 1, 1]
    assert at_coverage(found, 0).tolist() == [0, 0, 0, 0]


def test_ties_share_the_room() -> None:
    """Equally confident attempts at the border count by the share that there is room for, whatever their order."""
    found = attempts((0.9, True), (0.5, True), (0.5, False))
    assert at_coverage(found, 2).tolist() == [1, 0.5, 0]


def test_an_attempt_is_judged_though_the_run_abstained() -> None:
    """What was written is judged whatever became of it; an unanswerable question has no right answer."""
    assert attempted(row("a", status="abstained")).right
    assert not attempted(row("b", answers=[], unanswerable=True)).right
    assert attempted(row("a", isrel=0.5, issup=0.5)).confidence == pytest.approx(0.25)


def test_the_best_sentence_needs_no_model() -> None:
    """The sentence with most of the question's words is taken from any passage that was retrieved."""
    texts = [passage("A", "It rains. Nothing here."), passage("B", "Other. The capital of France is Paris. More.")]
    found = best_sentence(row("a") | {"question": "What is the capital of France?", "passages": texts})
    assert (found.right, found.confidence) == (True, 1.0)
    assert not best_sentence(row("a") | {"passages": []}).right


def test_a_margin_is_paired_and_at_equal_coverage() -> None:
    """The baseline answers as many questions as the run, its own most confident ones."""
    run = [row(str(i), status="answered" if i < 5 else "abstained") for i in range(10)]
    found = margin(run, [Attempt(str(i), i / 10, i % 2 == 0) for i in range(10)])
    assert (found.run, found.baseline) == (0.5, 0.2)
    assert found.difference.value == pytest.approx(0.3)
    assert found.difference.n == 10
