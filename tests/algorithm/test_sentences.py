"""What of a text says something by itself."""

from __future__ import annotations

import pytest

from selfrag.algorithm.sentences import points


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("See our guide on [Docker](../guides/docker.md) for more details.", True),
        ("- For more details, see the :ref:`configuration` section.", True),
        ("To learn more about publishing, check out the guides.", True),
        ("You can find more details here.", True),
        ("Weitere Informationen finden Sie im Handbuch.", True),
        ("자세한 내용은 설치 가이드를 참고하세요.", True),
        ("See the example below. It prints 3.", False),
        ("For the fixers, ruff will run check.", False),
        ("You can read more than one file.", False),
        ("Seeds are kept dry.", False),
        ("See the Colosseum in the morning.", False),
    ],
)
def test_what_only_sends_the_reader_elsewhere(text: str, only: bool) -> None:
    """A single sentence that names another place, in three languages; not one with a sentence of its own beside it."""
    assert points(text) is only
