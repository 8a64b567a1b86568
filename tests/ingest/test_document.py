from __future__ import annotations

import pytest

from selfrag import ingest
from selfrag.answers.citations import location
from selfrag.ingest.document import Document, Place


def test_places_of_one_group_are_a_range() -> None:
    """A text over several places is cited from the first to the last, a range of its own included."""
    places = (
        Place(0, "¶", "1"),
        Place(6, "¶", "2"),
        Place(12, "Prices!", "A2", "C2", ":"),
        Place(18, "Prices!", "A3", "C3", ":"),
    )
    document = Document("first\nsecnd\nthird\nforth\n", "t", "x", places=places)
    assert document.place(0, 5) == "¶1"
    assert document.place(0, 12) == "¶1–2"
    assert document.place(12, 17) == "Prices!A2:C2"
    assert document.place(12, 24) == "Prices!A2:C3"
    assert document.place(0, 24) == "¶1"
    assert document.lines(0, 5) is None


def test_chunks_stay_within_their_section() -> None:
    """No chunk crosses a section, however short the sections are."""
    document = Document("one slide\n\nanother one\n\n", "t", "x", places=(Place(0, "slide ", "1"),), sections=(0, 11))
    assert [chunk.text for chunk in ingest.split(document)] == ["one slide", "another one"]


@pytest.mark.parametrize(
    ("passage", "shown"),
    [
        ({"place": "slide 3", "page": None, "lines": None}, "a slide 3"),
        ({"place": None, "page": 4, "lines": [1, 2]}, "a p.4"),
        ({"page": None, "lines": [7, 9]}, "a:7"),
        ({"page": None, "lines": None}, "a"),
    ],
)
def test_a_location_is_the_most_natural_one(passage: dict[str, object], shown: str) -> None:
    """The place if there is one, else the page, else the line; a stored answer without places is read, too."""
    assert location("a", passage) == shown
