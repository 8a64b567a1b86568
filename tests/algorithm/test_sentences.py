"""What of a text says something by itself."""

from __future__ import annotations

import pytest

from selfrag.algorithm.sentences import defined, defines, points


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("See our guide on [Docker](../guides/docker.md) for more details.", True),
        ("- For more details, see the :ref:`configuration` section.", True),
        ("To learn more about publishing, check out the guides.", True),
        ("Weitere Informationen finden Sie im Handbuch.", True),
        ("자세한 내용은 설치 가이드를 참고하세요.", True),
        ("See the example below. It prints 3.", False),
        ("For the fixers, ruff will run check.", False),
        ("Seeds are kept dry.", False),
    ],
)
def test_what_only_sends_the_reader_elsewhere(text: str, only: bool) -> None:
    """A single sentence that names another place, in three languages; not one with a sentence of its own beside it."""
    assert points(text) is only


@pytest.mark.parametrize(
    ("question", "text", "is_one"),
    [
        ("What is Jujutsu?", "Jujutsu is a powerful version control system.", True),
        ("What are bookmarks?", "A bookmark (`b`) is a named pointer.", True),
        ("What's the _cache_?", "The cache is the place.", True),
        ("What is Jujutsu?", "Jujutsu is available under a licence.", False),
        ("What is Jujutsu?", "Git is a version control system.", False),
        ("How is it built?", "It is a kite.", False),
    ],
)
def test_a_definition_of_what_is_asked_for(question: str, text: str, is_one: bool) -> None:
    """``X is a`` answers ``What is X?``, with articles, plurals and marks left aside."""
    assert defines(text, defined(question)) is is_one
