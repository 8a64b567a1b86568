"""What a path keeps."""

from __future__ import annotations

import pytest

from selfrag.algorithm.beam import Path
from selfrag.types import Critique, Segment


@pytest.mark.parametrize(
    ("before", "text", "gains"),
    [
        ((), "", True),
        (("It was built in 1889.",), "It was built in 1889.", False),
        (("It was built in 1889.",), "was built in 1889", False),
        (("It was built in 1889.",), "BUILT: in 1889!", False),
        (("It was built in 1889.", "It is tall."), "It was built tall.", False),
        (("It was built in 1889.",), "It was built by Eiffel.", True),
        (("It was built in 1889.",), "", False),
        (("서울이다.",), "부산이다.", True),
    ],
)
def test_a_segment_must_add_a_word(before: tuple[str, ...], text: str, gains: bool) -> None:
    """The first segment always counts; a later one must say a word that the answer does not have yet, whatever its case."""
    path = Path(0, tuple(Segment(words, None, Critique()) for words in before))
    assert path.gains(Segment(text, None, Critique())) == gains
