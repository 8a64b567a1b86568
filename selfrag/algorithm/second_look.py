"""The second look: sentences that a passage already has, judged as segments.

Judging an existing sentence takes a fraction of the time of writing one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from selfrag.algorithm.sentences import ROOM, leads, pieces, points
from selfrag.algorithm.tasks import together
from selfrag.types import Critique, Passage, Reflector, Segment

PASSAGES, SENTENCES = 3, 12
"""How many passages are read, the most relevant ones, and how many sentences of each at most."""


def relevant(nearest: Iterable[tuple[Critique, Passage]], least: float) -> list[tuple[Critique, Passage]]:
    """The passages to read, with their critiques: the most relevant ones with an ISREL of at least ``least``."""
    enough = [pair for pair in nearest if pair[0].isrel >= least]
    return sorted(enough, key=lambda pair: -pair[0].isrel)[:PASSAGES]


async def judged(reflector: Reflector, instruction: str, opening: Critique, passage: Passage) -> list[Segment]:
    """The sentences of ``passage`` as segments, with the ISREL and the sequence term of ``opening``."""
    found = sentences_of(passage)
    critiques = await together(reflector.judge(instruction, passage, sentence) for sentence in found)
    return [Segment(sentence, passage, judged_again(opening, each)) for sentence, each in zip(found, critiques, strict=True)]


def sentences_of(passage: Passage) -> list[str]:
    """The first sentences of a passage that can be an answer by themselves."""
    whole = (piece for piece in pieces(passage.text) if 12 <= len(piece) <= ROOM and not leads(piece) and not points(piece))
    return list(islice(whole, SENTENCES))


def judged_again(critique: Critique, judged: Critique) -> Critique:
    """``critique`` with the ISSUP and the ISUSE of ``judged``."""
    distributions = {**critique.distributions, **judged.distributions}
    return replace(critique, issup=judged.issup, isuse=judged.isuse, distributions=distributions)
