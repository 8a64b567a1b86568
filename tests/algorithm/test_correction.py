"""Corrective retrieval: when it searches again, and with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrag.algorithm.correction import feedback_terms, key_terms, names, query_of, rewritten, standing
from selfrag.types import Passage

SHARE = st.floats(0, 1)


def passage(text: str, title: str = "") -> Passage:
    return Passage(text, title, text, "notes.md")


@pytest.mark.parametrize(
    ("relevances", "expected"), [([], "not found"), ([0.1, 0.05], "not found"), ([0.1, 0.3], "doubtful"), ([0.6], "found")]
)
def test_the_best_passage_decides(relevances: list[float], expected: str) -> None:
    """What was read will do, may do or will not by the best ISREL alone; with nothing read nothing was found."""
    assert standing(relevances, 0.2, 0.5) == expected


@given(st.lists(SHARE, max_size=6), SHARE, SHARE, SHARE)
def test_one_more_passage_never_makes_it_worse(relevances: list[float], more: float, doubtful: float, found: float) -> None:
    """A passage more leaves the standing as it was or lifts it."""
    order = ["not found", "doubtful", "found"]
    before, after = (order.index(standing(read, doubtful, found)) for read in (relevances, [*relevances, more]))
    assert after >= before


def test_key_terms_are_the_words_that_carry_meaning() -> None:
    """Question words go, the others stay in order and once."""
    assert key_terms("When was the bridge over the Rhine, the old bridge, built?") == ["bridge", "Rhine", "old", "built"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who wrote The Name of the Rose?", ["The Name of the Rose"]),
        ("What is “double entry”?", ["double entry"]),
        ("Where does BM25 come from?", ["BM25"]),
        ("Bridges are built how?", []),
        ("what does `--no-cache` do?", ["--no-cache"]),
    ],
)
def test_names_are_runs_of_capitals_and_quotations(question: str, expected: list[str]) -> None:
    """A capital at the beginning of a sentence alone is no name, a leading article or question word is left out."""
    assert [name.removeprefix("The ") for name in names(question)] == [name.removeprefix("The ") for name in expected]


def test_feedback_takes_what_the_passages_share() -> None:
    """Words in most of the passages come first; those of the question are not repeated."""
    read = [passage("the cathedral of Cologne, gothic"), passage("a gothic cathedral", "Spires"), passage("gothic letters")]
    assert feedback_terms("Which cathedral?", read)[:2] == ["gothic", "cologne"]


@pytest.mark.parametrize("said", ["", "  ", '""', "two\nlines", "Which cathedral?", "is it the", "long " * 100])
def test_what_is_no_query_is_not_searched(said: str) -> None:
    """Nothing, several lines, the question again, stop words alone and a long text are no query."""
    assert query_of(said, "which cathedral?") is None
    assert query_of(" 'gothic church' \n", "which cathedral?") == "gothic church"


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=4), st.integers(1, 3))
def test_a_rewritten_query_is_another_query(question: str, texts: list[str], number: int) -> None:
    """Whatever the question and the passages say, the query is none, or not empty and not the question itself."""
    query = rewritten(question, [passage(text) for text in texts], number)
    assert query is None or (query.strip() and query.casefold() != question.casefold())
