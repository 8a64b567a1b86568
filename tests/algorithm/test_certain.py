"""What is certain of an answer before its search is over."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from selfrag.agent import Agent
from selfrag.algorithm.certain import Certain
from selfrag.algorithm.reflection import FULLY, RETRIEVAL
from selfrag.reflectors.tokens import TokenReflector
from selfrag.types import Answer, Event, Expanded, SearchOptions, Weights
from tests.algorithm.test_search import (
    LONG,
    OPTIONS,
    Shelf,
    after,
    backed,
    judged,
    model,
    passage,
    random_model,
    then,
    useful,
)
from tests.scripted_engine import words


async def watched(agent: Agent, options: SearchOptions) -> tuple[Answer, list[tuple[Event, Certain, int, bool]]]:
    """The answer, and after each event how many segments were certain and whether they were firm."""
    certain, seen = Certain(options), []

    def observe(event: Event) -> None:
        certain(event)
        seen.append((event, certain, len(certain.segments), certain.firm))

    return await agent.ask("q?", options, observer=observe), seen


ENDS_AS_IT_IS = SearchOptions(beam_width=3, max_segments=3, weights=Weights(0.5, 0.5, 0.0, sequence=False, ret=0.5), k=3)
"""With seed 1 a path that was best until it was extended gives way to one that is abstained from."""


JOINS_WHAT_IS_NOT_JUDGED = SearchOptions(
    k=4, beam_width=2, max_segments=2, weights=Weights(0.0, 0.0, 0.0, sequence=False), require_support="full", join_isuse=-1.0
)
"""With seed 255457 a segment without ISREL, of no use, might be added to an answer that is given."""


@example(seed=255457, options=JOINS_WHAT_IS_NOT_JUDGED, sup=0.0, use=-0.5)
@example(seed=1, options=ENDS_AS_IT_IS, sup=0.3, use=-1.0)
@given(seed=st.integers(0, 10**9), options=OPTIONS, sup=st.sampled_from([0.0, 0.3]), use=st.sampled_from([-1.0, -0.5]))
@settings(max_examples=600, deadline=None)
async def test_what_is_certain_comes_true(seed: int, options: SearchOptions, sup: float, use: float) -> None:
    """Certain segments are the first of the answer, scored and cited as in it; firm ones are given; all are in the end."""
    options = replace(options, abstain_issup=sup, abstain_isuse=use)
    shelf = Shelf(*(passage(n, score=(1.0, 0.7, 0.7, 0.2, 0.0)[n]) for n in range(5)))
    answer, seen = await watched(Agent(TokenReflector(random_model(seed), max_tokens=12), shelf), options)
    certain = seen[-1][1]
    before = 0, False
    for _, _, count, firm in seen:
        assert (count, firm) >= before
        assert not firm or answer.status == "answered"
        before = count, firm
    assert certain.segments == answer.segments
    assert certain.firm == (answer.status == "answered")


def chain(*tails: float, use: int = 5) -> TokenReflector:
    """A model that writes "one", and after it, from each passage, a last segment with this relevance."""
    scripts = {
        "Response:\n": [then(RETRIEVAL, 0.9)],
        after(1): [judged(0.99), *words("one"), backed(0.99), then(RETRIEVAL, 0.9)],
        after(2): [judged(0.01), *words("bad"), backed(0.01), useful(1)],
    }
    for n, rel in enumerate(tails, 1):
        scripts[f"one{FULLY}{RETRIEVAL}<paragraph>{after(n)}"] = [judged(rel), *words(f"two{n}"), backed(0.9), useful(use)]
    return TokenReflector(model(scripts))


async def written_before(reflector: TokenReflector, options: SearchOptions) -> list[str] | None:
    """The segments that had been written when the first one was firm; None if it never was."""
    _, seen = await watched(Agent(reflector, Shelf(passage(1), passage(2))), options)
    first = next((n for n, (*_, firm) in enumerate(seen) if firm), None)
    return None if first is None else [e.segment.text for e, *_ in seen[: first + 1] if isinstance(e, Expanded)]


async def test_a_segment_is_certain_when_all_kept_paths_share_it() -> None:
    """With one hypothesis kept, its first segment is printed before the second is written."""
    options = replace(LONG, beam_width=1, abstain_isrel=0.1)
    assert await written_before(chain(0.9, 0.8), options) == ["one"]


async def test_nothing_is_firm_while_the_program_may_abstain() -> None:
    """A threshold of usefulness, which only the last segment can fail, holds everything back until that one is written."""
    options = replace(LONG, beam_width=1, abstain_isuse=-0.5)
    assert await written_before(chain(0.9, 0.8), options) == ["one", "two1"]
    assert await written_before(chain(0.9, 0.8, use=1), options) is None


async def test_a_closed_set_is_decided_at_the_end() -> None:
    """A vote counts every candidate: nothing is certain before."""
    options = replace(LONG, choices=("one", "bad"), mode="always")
    _, seen = await watched(Agent(chain(), Shelf(passage(1), passage(2))), options)
    assert {count for _, _, count, _ in seen} == {0}
