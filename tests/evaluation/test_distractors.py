"""Passages without the answer among the candidates of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from selfrag.errors import UsageError
from selfrag.evaluation.distractors import Distracted, Distractors
from selfrag.evaluation.metrics import Gold
from selfrag.index.retriever import CollectionRetriever
from selfrag.types import Passage
from tests.index.conftest import Place

ASKED = "Which animal swims in the river?"


@pytest.fixture
def inner(tmp_path: Path) -> CollectionRetriever:
    """Forty passages on rivers, of which every fourth names the otter, and forty about something else."""
    place = Place(tmp_path)
    for number in range(40):
        animal = "otter" if number % 4 == 0 else f"fish{number}"
        place.write(f"river{number}.txt", f"The {animal} swims in the river {number}.")
        place.write(f"stone{number}.txt", f"Granite number{number} lies on mountain{number}.")
    place.sync()
    return CollectionRetriever([place.collection])


def names(passages: Sequence[Passage]) -> list[str]:
    return [each.source.rpartition("/")[2] for each in passages]


@pytest.mark.parametrize("kind", ["related", "random"])
async def test_distractors_follow_what_was_found_and_do_not_answer(inner: CollectionRetriever, kind: str) -> None:
    """What the search finds comes first and unchanged; the distractors are others, hold no answer, and are the same each time."""
    found = await inner.search(ASKED, 3)
    spoilt = Distracted(inner, Distractors.of(f"{kind}:7"), {ASKED: Gold(answers=("otter",), answerable=True)})
    shown = await spoilt.search(ASKED, 3)
    assert shown[:3] == found
    others = shown[3:]
    assert len({each.chunk for each in shown}) == 10
    assert not any("otter" in each.text for each in others)
    assert await spoilt.search(f"{ASKED} It swims.", 3) != []
    assert (await spoilt.search(ASKED, 3))[3:] == others
    stones = sum("Granite" in each.text for each in others)
    assert stones == 0 if kind == "related" else stones > 0
    assert spoilt.describe()["distractors"] == f"{kind}:7"


async def test_a_gold_source_is_no_distractor(inner: CollectionRetriever) -> None:
    """A passage of a source that is known to hold the answer is left out, whatever its words."""
    last = names((await inner.search(ASKED, 30))[5:])
    spoilt = Distracted(inner, Distractors("related", 5), {ASKED: Gold(sources=tuple(last[:3]), answerable=True)})
    assert names((await spoilt.search(ASKED, 5))[5:]) == last[3:8]


async def test_other_words_get_no_distractors(inner: CollectionRetriever) -> None:
    """Where nobody knows what the query asks for, nothing is added."""
    spoilt = Distracted(inner, Distractors("random", 5), {ASKED: Gold()})
    assert await spoilt.search("granite", 2) == await inner.search("granite", 2)


@pytest.mark.parametrize("text", ["", "related", "related:0", "near:3", "random:-1", "random:3:4"])
def test_what_is_no_kind_with_a_number_is_refused(text: str) -> None:
    """The message shows how it is written."""
    with pytest.raises(UsageError, match="no kind"):
        Distractors.of(text)
