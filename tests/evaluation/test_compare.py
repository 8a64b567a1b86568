from __future__ import annotations

import json

import pytest

from selfrag.errors import InputError
from selfrag.evaluation.compare import compare, comparison_json, stage
from selfrag.evaluation.outcome import outcome
from selfrag.evaluation.report import outcomes_of
from selfrag.evaluation.tables import comparison_markdown, comparison_text
from tests.rows import row

NO = {"answers": [], "unanswerable": True}


@pytest.mark.parametrize(
    ("answered", "lost"),
    [
        (row("a"), "right"),
        (row("a", **NO), "answered all the same"),
        (row("a", status="abstained", **NO), "right"),
        (row("a", status="abstained"), "abstained"),
        (row("a", "Lyon", found=(), cited=None), "not retrieved"),
        (row("a", "Lyon", found=("Spain",), cited="Spain"), "retrieval"),
        (row("a", "Lyon", cited="Spain"), "relevance"),
        (row("a", "Lyon"), "support"),
        (row("a", "Lyon", sources=["Elsewhere"], found=("Spain",)), "retrieval"),
        (row("a", status="error"), "failed"),
    ],
)
def test_a_wrong_answer_is_traced_to_the_step_that_lost_it(answered: dict[str, object], lost: str) -> None:
    """The first step of the search from which the right passage, or the right words, were missing."""
    assert stage(outcome(answered)) == lost


def test_differences_are_paired_by_id() -> None:
    """Second minus first, over the questions that both have; the order of the files does not matter."""
    first = [row(str(i), "Lyon" if i < 6 else "Paris") for i in range(12)]
    second = [row(str(i)) for i in reversed(range(12))]
    found = compare(outcomes_of(first), outcomes_of([*second, row("x")]))
    assert (found.paired, found.unpaired, found.failed) == (12, 1, 0)
    em = next(d for d in found.differences if d.name == "em")
    assert (em.first, em.second, em.difference.value) == (0.5, 1.0, 0.5)
    assert em.p == pytest.approx(2 / 2**6)
    assert em.difference.low is not None
    assert em.difference.low > 0
    assert next(d for d in found.differences if d.name == "f1").p is None


def test_questions_that_changed_sides_are_listed_with_both_answers() -> None:
    """Each with the step that lost it in the run where it is wrong."""
    found = compare(outcomes_of([row("a"), row("b", "Lyon", cited="Spain")]), outcomes_of([row("a", "Rome"), row("b")]))
    assert [(c.id, c.stages) for c in found.changes] == [("a", ("right", "support")), ("b", ("relevance", "right"))]
    text = comparison_text(found, ("plain", "selfrag"))
    assert "Changed sides: 2 questions, 1 for the better" in text
    assert "Rome" in text
    assert "| metric | plain | selfrag |" in comparison_markdown(found, ("plain", "selfrag"))
    json.dumps(comparison_json(found), allow_nan=False)


def test_failed_and_changed_questions_are_left_out() -> None:
    """A question that failed in one run, or that asks something else under the same id, cannot be compared."""
    other = row("b") | {"question": "Something else?"}
    found = compare(outcomes_of([row("a"), row("b"), row("c")]), outcomes_of([row("a"), other, row("c", status="error")]))
    assert (found.paired, found.unpaired, found.failed) == (1, 2, 1)
    with pytest.raises(InputError, match="in common"):
        compare(outcomes_of([row("a")]), outcomes_of([row("b")]))
